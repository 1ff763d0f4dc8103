"""Wall time and peak memory of a command together with all processes that it starts (Linux)."""

from __future__ import annotations

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
    peak_mb : most memory (MiB) at one time, shared pages divided among those that share them
    """

    seconds: float
    peak_mb: float


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
            peak = max(peak, sum(_memory_mb(one) for one in _tree(process.pid)))
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


def _memory_mb(process: int) -> float:
    for line in _read(Path(f"/proc/{process}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _read(path: Path) -> str:
    """Empty where the process has ended meanwhile."""
    try:
        return path.read_text()
    except OSError:
        return ""
