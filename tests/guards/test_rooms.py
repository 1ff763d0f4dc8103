"""The package stays one in which things are found: small folders, short files, nothing loose, imports that lead downward."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
ROOMS = ("mmccd_auto", "plans", "preprocessing", "inference")
MOST_MODULES = 14
MOST_LINES = 400
MOST_LINES_OF_A_FUNCTION = 60


def modules() -> list[Path]:
    found = [path.relative_to(HERE) for room in ROOMS for path in (HERE / room).rglob("*.py")]
    assert len(found) > 100
    return found


def test_folders_are_small() -> None:
    folders = Counter(path.parent.as_posix() for path in modules())
    assert {folder: count for folder, count in folders.items() if count > MOST_MODULES} == {}


def test_files_are_short() -> None:
    lines = {path.as_posix(): len((HERE / path).read_text(encoding="utf-8").splitlines()) for path in modules()}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_functions_are_short() -> None:
    lines = {
        f"{path.as_posix()}: {node.name}": node.end_lineno - node.lineno + 1
        for path in modules()
        for node in ast.walk(ast.parse((HERE / path).read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(lines) > 1000
    assert {name: count for name, count in lines.items() if count > MOST_LINES_OF_A_FUNCTION} == {}


def test_nothing_is_loose_at_the_root() -> None:
    loose = [path.as_posix() for path in modules() if path.parent == Path("mmccd_auto")]
    assert loose == ["mmccd_auto/__init__.py"]


def check_imports(here: Path) -> subprocess.CompletedProcess[str]:
    """What .ci/imports says of a clone."""
    pytest.importorskip("importlinter")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [here / ".ci" / "imports"]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)


def test_imports_lead_downward() -> None:
    done = check_imports(HERE)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "added", "broken"),
    [
        ("mmccd_auto/core/wording.py", "from mmccd_auto.plans.plan import Plan", "Rooms import downward"),
        (
            "inference/maps/tiles.py",
            "import mmccd_auto.inference.scores.masks",
            "Inference imports downward",
        ),
        (
            "mmccd_auto/phantom/fields.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from mmccd_auto.phantom.head import Volume",
            "No circles",
        ),
    ],
)
def test_an_import_that_leads_upward_is_found(tmp_path: Path, module: str, added: str, broken: str) -> None:
    for name in (*ROOMS, ".ci"):
        shutil.copytree(HERE / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "models"))
    shutil.copy(HERE / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{added}\n")
    done = check_imports(tmp_path)
    assert done.returncode == 1
    assert f"{broken} BROKEN" in done.stdout
