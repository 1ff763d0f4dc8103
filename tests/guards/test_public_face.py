"""``import mmccd_auto``: a function for each command, the classes that a notebook needs, and nothing slow."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from inspect import isclass, isfunction

import pytest

import mmccd_auto

CLASSES = ("MMCCDError", "Plan", "Predictor", "Volume")
# Where the function isn't called like its command.
FUNCTIONS = {
    "import": "import_export",
    "models": "list_models",
    "run": "run_all",
    "demo": "run_demo",
    "bids": "predict_bids",
    "pacs": "serve_pacs",
}


def test_every_command_has_a_function() -> None:
    commands = [
        point.name.removeprefix("mmccd_")
        for point in entry_points(group="console_scripts")
        if point.value.startswith("mmccd_auto.cli.entry_points:")
    ]
    assert len(set(commands)) >= 13
    for command in commands:
        function = getattr(mmccd_auto, FUNCTIONS.get(command, command))
        assert isfunction(function)
        assert function.__module__.startswith("mmccd_auto.workflows.")


@pytest.mark.parametrize("name", CLASSES)
def test_classes_of_a_notebook(name: str) -> None:
    assert isclass(getattr(mmccd_auto, name))
    assert name in dir(mmccd_auto)


def test_another_name_is_unknown() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pipeline'"):
        _ = mmccd_auto.pipeline


def test_the_package_loads_nothing_slow() -> None:
    loaded = "import sys, mmccd_auto; print({'torch', 'numpy', 'SimpleITK', 'mmccd_auto.core'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=600, check=True)
    assert done.stdout.strip() == "set()"
