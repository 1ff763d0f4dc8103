"""The package as it is handed on: a copy of what builds it, and the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
ROOMS = ("mmccd_auto", "plans", "preprocessing", "inference")
FILES = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "LICENSE",
)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return REPOSITORY


@pytest.fixture(scope="session")
def copy_source() -> Callable[[Path], Path]:
    """A function that copies what a wheel is built from into a new folder, so that nothing is built in the working tree."""

    def copy(target: Path) -> Path:
        for room in ROOMS:
            shutil.copytree(REPOSITORY / room, target / room, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (*(REPOSITORY / name for name in FILES), *REPOSITORY.glob("constraints*.txt")):
            shutil.copy(path, target)
        return target

    return copy


@pytest.fixture(scope="session")
def build_wheel() -> Callable[[Path, Path], Path]:
    """A function that builds the wheel of a source folder into another folder and gives its path."""

    def build(source: Path, target: Path) -> Path:
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
        subprocess.run([*command, "-w", str(target), str(source)], check=True, timeout=600)
        (wheel,) = target.glob("*.whl")
        return wheel

    return build


@pytest.fixture(scope="session")
def wheel(
    tmp_path_factory: pytest.TempPathFactory, copy_source: Callable[[Path], Path], build_wheel: Callable[[Path, Path], Path]
) -> Path:
    """The wheel of the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    return build_wheel(copy_source(folder / "source"), folder / "built")
