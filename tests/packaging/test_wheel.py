"""The wheel: complete, small, and usable in an environment that holds nothing else of this repository.

pytest -n 0 tests/packaging
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from email.parser import BytesParser
from pathlib import Path

import pytest

import mmccd_auto

MOST_BYTES = 15 * 2**20
ROOMS = ("mmccd_auto", "plans", "preprocessing", "inference")
# As a ready model is unpacked: a folder for each modality, models in it, folds in those.
MODEL_FILES = (
    "build.json",
    "FLAIR/manifest.json",
    "FLAIR/MODEL_CARD.md",
    "FLAIR/one/plans.json",
    "FLAIR/one/fold_0/weights.safetensors",
)
ALLOWED_KINDS = {".py", ".typed", ".js", ".css", ".md", ".json", ".safetensors", ""}


def package_files(repository: Path) -> set[str]:
    """What the working tree holds of the package, under the names that an installation gives it."""
    return {
        ("" if room == "mmccd_auto" else "mmccd_auto/") + path.relative_to(repository).as_posix()
        for room in ROOMS
        for path in (repository / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def wheel_files(wheel: Path) -> set[str]:
    """What a wheel holds without its own records."""
    names = zipfile.ZipFile(wheel).namelist()
    return {name for name in names if not name.split("/")[0].endswith(".dist-info")}


def test_wheel_holds_the_package_and_nothing_else(wheel: Path, repository: Path) -> None:
    """Every module, py.typed, the page's scripts and the ready models; no tests, no scans."""
    files = wheel_files(wheel)
    assert files == package_files(repository)
    assert {"mmccd_auto/py.typed", "mmccd_auto/reporting/page/assets/niivue/niivue.umd.js"} <= files
    assert {Path(name).suffix for name in files} <= ALLOWED_KINDS
    assert not [name for name in files if "test" in Path(name).parts[0] or Path(name).name.startswith("test_")]


def test_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size <= MOST_BYTES


def test_wheel_says_what_the_package_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        facts = BytesParser().parsebytes(archive.read(name))
        licences = [name for name in archive.namelist() if name.endswith("LICENSE") and ".dist-info/" in name]
    assert facts["Version"] == mmccd_auto.__version__
    assert facts["License-Expression"] == "Apache-2.0"
    assert facts["Requires-Python"] == ">=3.10"
    assert len(licences) == 2, "the package's own licence and that of the viewer it ships"


def test_a_ready_model_is_part_of_the_wheel(
    tmp_path: Path, copy_source: Callable[[Path], Path], build_wheel: Callable[[Path, Path], Path]
) -> None:
    source = copy_source(tmp_path / "source")
    for name in MODEL_FILES:
        path = source / "mmccd_auto" / "ready" / "models" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
    files = wheel_files(build_wheel(source, tmp_path / "built"))
    assert {f"mmccd_auto/ready/models/{name}" for name in MODEL_FILES} <= files


def test_a_source_distribution_builds_the_same_wheel(
    tmp_path: Path, wheel: Path, copy_source: Callable[[Path], Path], build_wheel: Callable[[Path, Path], Path]
) -> None:
    source = copy_source(tmp_path / "source")
    code = "import sys; from setuptools.build_meta import build_sdist; print(build_sdist(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, timeout=600, stdout=subprocess.DEVNULL)
    (archive,) = tmp_path.glob("*.tar.gz")
    assert wheel_files(build_wheel(archive, tmp_path / "built")) == wheel_files(wheel)


class Installation:
    """A virtual environment with the wheel in it, which borrows everything else from the one that runs the tests."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder)
        self.programs = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = self.programs / Path(sys.executable).with_stem("python").name
        (self.site,) = folder.glob("Lib/site-packages" if os.name == "nt" else "lib/python*/site-packages")
        borrowed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
        (self.site / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
        ]
        subprocess.run([*command, str(wheel)], check=True, timeout=600)

    def run(self, *command: str | Path, cwd: Path) -> str:
        """What a command prints, with nothing of this repository on its path."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "mmccd_"))}
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installation:
    return Installation(tmp_path_factory.mktemp("installed") / "environment", wheel)


def test_commands_of_an_installation(installation: Installation, tmp_path: Path) -> None:
    assert "--healthy" in installation.run(installation.programs / "mmccd_run", "--help", cwd=tmp_path)
    assert "mmccd_predict" in installation.run(installation.programs / "mmccd_predict", "--help", cwd=tmp_path)
    version = installation.run(installation.programs / "mmccd_predict", "--version", cwd=tmp_path)
    assert version.strip() == f"mmccd_auto {mmccd_auto.__version__}"


def test_the_demo_begins_in_an_installation(installation: Installation, tmp_path: Path) -> None:
    """Its first stage writes the simulated dataset; the modules and the scripts of the page are the installed ones."""
    code = (
        "from importlib.resources import files\n"
        "import mmccd_auto.phantom.dataset as first\n"
        "first.write_phantom_dataset('raw', people=first.PhantomPeople(1, 1, 4))\n"
        "print(first.__file__)\n"
        "print(files('mmccd_auto.reporting.page').joinpath('assets/niivue/niivue.umd.js').stat().st_size)"
    )
    module, viewer = installation.run(installation.python, "-c", code, cwd=tmp_path).splitlines()
    assert Path(module).is_relative_to(installation.site)
    assert int(viewer) > 10**6
    dataset = tmp_path / "raw" / "Dataset900_Phantom"
    scans = {path.relative_to(dataset).as_posix() for path in dataset.rglob("*.nii.gz")}
    assert {"imagesTr/healthy_00_0000.nii.gz", "imagesTs/test_00_0000.nii.gz", "labelsTs/test_00.nii.gz"} <= scans


def test_workers_of_an_installation_come_from_it(installation: Installation, repository: Path, tmp_path: Path) -> None:
    """Started in the repository's folder, whose modules have the same names."""
    script = tmp_path / "script.py"
    script.write_text(
        "from mmccd_auto.core.processes.executor import load_libraries_early, make_executor\n"
        "if __name__ == '__main__':\n"
        "    load_libraries_early()\n"
        "    with make_executor(1) as executor:\n"
        "        print(executor.submit(eval, '__import__(\"mmccd_auto.plans.plan\").__file__').result())\n",
        encoding="utf-8",
    )
    module = installation.run(installation.python, script, cwd=repository).strip()
    assert module == str(installation.site / "mmccd_auto" / "__init__.py")
