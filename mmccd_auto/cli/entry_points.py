"""Where the console scripts begin.

A worker process imports the script that started its parent: this module loads no more than the command that was called, and
that only where it runs.
"""

from __future__ import annotations

from importlib import import_module

from mmccd_auto.executor import load_libraries_early


def plan_and_preprocess() -> None:
    """mmccd_plan_and_preprocess."""
    load_libraries_early()
    _run("plan_and_preprocess")


def import_export() -> None:
    """mmccd_import."""
    _run("import_export")


def train() -> None:
    """mmccd_train."""
    _run("train")


def calibrate() -> None:
    """mmccd_calibrate."""
    _run("calibrate")


def find_best_configuration() -> None:
    """mmccd_find_best_configuration."""
    _run("find_best_configuration")


def cross_validate() -> None:
    """mmccd_cross_validate."""
    _run("cross_validate")


def predict() -> None:
    """mmccd_predict."""
    _run("predict")


def evaluate() -> None:
    """mmccd_evaluate."""
    _run("evaluate")


def demo() -> None:
    """mmccd_demo."""
    _run("demo")


def _run(command: str) -> None:
    import_module(f"mmccd_auto.cli.{command}").main()
