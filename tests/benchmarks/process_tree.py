"""Wall time and peak memory of a command together with all processes that it starts (Linux)."""

from __future__ import annotations

import argparse
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.1


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes
    ----------
    seconds : wall time
    peak_mb : most memory (MiB) at one time, shared pages divided among those that share them; sampled, but at least the most
        that one of the processes ever had
    """

    seconds: float
    peak_mb: float


def parsed_with_options(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments before ``--``, parsed, and as ``options`` what stands after it, for the command that is measured."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:place])
    options.options = list(arguments[place + 1 :])
    return options


def run_measured(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Cost:
    """Run a command to its end.

    Raises
    ------
    SystemExit
        If it fails; the message names the log.
    """
    started, peak = time.monotonic(), 0.0
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=dict(environment), stdout=file, stderr=file)
        while process.poll() is None:
            tree = _tree(process.pid)
            together = sum(_memory_mb(f"/proc/{one}/smaps_rollup", "Pss:") for one in tree)
            peak = max(peak, together, *(_memory_mb(f"/proc/{one}/status", "VmHWM:") for one in tree))
            time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed: see {log}")
    return Cost(time.monotonic() - started, peak)


def _tree(root: int) -> list[int]:
    found, waiting = [], [root]
    while waiting:
        process = waiting.pop()
        found.append(process)
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            waiting += [int(child) for child in _read(children).split()]
    return found


def _memory_mb(file: str, entry: str) -> float:
    for line in _read(Path(file)).splitlines():
        if line.startswith(entry):
            return int(line.split()[1]) / 1024
    return 0.0


def _read(path: Path) -> str:
    """Empty where the process has ended meanwhile."""
    try:
        return path.read_text()
    except OSError:
        return ""
