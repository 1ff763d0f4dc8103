"""The table that a battery prints at its end."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_runner import CommandRunner
from small_world import make_world

_COUNTS: dict[str, Counter[str]] = defaultdict(Counter)
FAULTS = ("tracebacks", "hangs", "files lost", "half files", "other results", "left behind", "untold")


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandRunner]:
    """The process from which commands are forked."""
    made = CommandRunner(tmp_path_factory.mktemp("said"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, runner: CommandRunner) -> Path:
    """A folder in which every command has been run once; copy what is to be changed."""
    return make_world(tmp_path_factory.mktemp("world"), runner)


@pytest.fixture
def count() -> Callable[..., None]:
    """Counts a try of a group, and the faults that it showed."""

    def note(group: str, *faults: str, tries: int = 1) -> None:
        assert set(faults) <= set(FAULTS)
        _COUNTS[group]["tries"] += tries
        _COUNTS[group].update(faults)

    return note


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker of pytest-xdist has counted to the process that prints the table."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["battery"] = {group: dict(counts) for group, counts in _COUNTS.items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add what a worker has counted."""
    for group, counts in getattr(node, "workeroutput", {}).get("battery", {}).items():
        _COUNTS[group].update(counts)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was tried, and what came of it."""
    if not _COUNTS:
        return
    terminalreporter.section("battery")
    columns = ("tries", *FAULTS)
    terminalreporter.write_line(f"{'':36}" + "".join(f"{name:>15}" for name in columns))
    for group, counts in [*_COUNTS.items(), ("all", sum(_COUNTS.values(), Counter()))]:
        terminalreporter.write_line(f"{group:36}" + "".join(f"{counts[name]:>15}" for name in columns))
