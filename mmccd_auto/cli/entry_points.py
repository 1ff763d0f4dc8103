"""Where the console scripts begin.

A worker process imports the script that started its parent: this module loads no more than the command that was called, and
that only where it runs.
"""

from __future__ import annotations

import sys
from importlib import import_module
from itertools import pairwise

from mmccd_auto.core.processes.executor import load_libraries_early
from mmccd_auto.core.processes.signals import describe_interrupt, endings_as_interrupts, exit_status


def run() -> None:
    """Run mmccd_run."""
    _run("run")


def plan_and_preprocess() -> None:
    """Run mmccd_plan_and_preprocess."""
    _run("plan_and_preprocess", starts_workers=_may_start_workers(sys.argv[1:]))


def import_export() -> None:
    """Run mmccd_import."""
    _run("import_export")


def train() -> None:
    """Run mmccd_train."""
    _run("train")


def calibrate() -> None:
    """Run mmccd_calibrate."""
    _run("calibrate")


def find_best_configuration() -> None:
    """Run mmccd_find_best_configuration."""
    _run("find_best_configuration")


def cross_validate() -> None:
    """Run mmccd_cross_validate."""
    _run("cross_validate")


def predict() -> None:
    """Run mmccd_predict."""
    _run("predict")


def bids() -> None:
    """Run mmccd_bids."""
    _run("bids")


def pacs() -> None:
    """mmccd_pacs."""
    _run("pacs")


def evaluate() -> None:
    """Run mmccd_evaluate."""
    _run("evaluate")


def export_model() -> None:
    """Run mmccd_export_model."""
    _run("sharing.export_model")


def install_model() -> None:
    """Run mmccd_install_model."""
    _run("sharing.install_model")


def models() -> None:
    """Run mmccd_models."""
    _run("sharing.models")


def demo() -> None:
    """Run mmccd_demo."""
    _run("demo")


def _may_start_workers(arguments: list[str]) -> bool:
    """Glance at the arguments: the command parses them only after it has loaded its own libraries."""
    if not {"-h", "--help", "--version"}.isdisjoint(arguments):
        return False
    words = [word for one in arguments for word in (one.split("=") if one.startswith("-np=") else [one])]
    processes = [after for word, after in pairwise([*words, ""]) if word == "-np"]
    return not processes or (processes[-1].isdigit() and int(processes[-1]) > 0)


def _run(command: str, starts_workers: bool = False) -> None:
    """Load a command and run it; an interrupt while its libraries are loaded is no reason for a traceback."""
    try:
        with endings_as_interrupts():
            if starts_workers:
                load_libraries_early()
            import_module(f"mmccd_auto.cli.commands.{command}").main()
    except KeyboardInterrupt as error:
        print(describe_interrupt(error), file=sys.stderr)
        sys.exit(exit_status(error))
