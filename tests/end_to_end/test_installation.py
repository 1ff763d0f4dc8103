"""How commands and modules begin: what they load, and that they touch no folder. tests/packaging has the wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmccd_auto.cli import entry_points


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        ("", True),
        ("-d 1", True),
        ("-d 1 -np 2", True),
        ("-np 0 -d 1 -np 10", True),
        ("--raw_folder /a/-np=0", True),
        ("-d 1 -np 0", False),
        ("-np=0 -d 1", False),
        ("-d 1 -np", False),
        ("-h", False),
        ("-d 1 --help", False),
        ("--version", False),
    ],
)
def test_libraries_are_loaded_early_where_there_will_be_workers(monkeypatch, arguments: str, started: bool) -> None:
    done = []
    monkeypatch.setattr(sys, "argv", ["mmccd_plan_and_preprocess", *arguments.split()])
    monkeypatch.setattr(entry_points, "load_libraries_early", lambda: done.append("early"))
    monkeypatch.setattr(entry_points, "import_module", lambda name: SimpleNamespace(main=lambda: done.append(name)))
    entry_points.plan_and_preprocess()
    assert done == ["early"] * started + ["mmccd_auto.cli.commands.plan_and_preprocess"]


def test_importing_every_module_touches_no_folder(tmp_path: Path) -> None:
    code = (
        "import os, pkgutil, importlib\n"
        "import mmccd_auto\n"
        "for item in pkgutil.walk_packages(mmccd_auto.__path__, 'mmccd_auto.'):\n"
        "    importlib.import_module(item.name)\n"
        "print(sorted(os.listdir('.')))"
    )
    environment = {**os.environ, "mmccd_raw": "/nonexistent/raw", "mmccd_results": "/nonexistent/results"}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
