"""The commands at a cluster whose workers and whose scheduler are killed: what is written is what one process writes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from measure_cluster import OPTIONS, dask_processes, differing, preprocess, write_small_dataset

pytestmark = pytest.mark.slow
pytest.importorskip("distributed")
CASES = 12
SLICES = "Dataset007_Small/mmccdPlansSmall_lowres"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_small_dataset(tmp_path / "raw", CASES)
    preprocess(tmp_path / "one", tmp_path / "raw", "-np", "0")
    (tmp_path / "dask").mkdir()
    return tmp_path / "raw"


def begun(raw: Path, home: Path, address: str) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).parent / "mmccd_plan_and_preprocess"), *OPTIONS, "-device", "cpu"]
    folders = ("--raw_folder", str(raw), "--preprocessed_folder", str(home))
    return subprocess.Popen([*command, "--cluster", address, *folders], cwd=raw, stderr=subprocess.PIPE, text=True)


def wait_for_cases(home: Path, count: int) -> None:
    """Wait until slices of so many cases are there: with the last of them others are in work."""
    deadline = time.monotonic() + 500
    while len(list((home / SLICES).glob("case_*.json"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_killed_workers_lose_nothing(raw: Path, tmp_path: Path) -> None:
    with dask_processes(tmp_path / "dask", 2) as (address, scheduler):
        process = begun(raw, tmp_path / "cluster", address)
        for count in (2, 5):
            wait_for_cases(tmp_path / "cluster", count)
            workers = [one for one in psutil.Process(scheduler.ppid()).children(recursive=True) if is_worker(one)]
            workers[0].kill()
        _, told = process.communicate(timeout=500)
    assert process.returncode == 0, told
    assert differing(tmp_path / "one", tmp_path / "cluster") == []


def is_worker(process: psutil.Process) -> bool:
    """Whether a process is one that works, started by a nanny of dask."""
    command = " ".join(process.cmdline())
    return "spawn_main" in command and "dask_worker" in " ".join(process.parent().cmdline())


def test_a_command_continues_after_its_scheduler_was_killed(raw: Path, tmp_path: Path) -> None:
    home = tmp_path / "cluster"
    with dask_processes(tmp_path / "dask", 2) as (address, scheduler):
        process = begun(raw, home, address)
        wait_for_cases(home, 3)
        scheduler.kill()
        _, told = process.communicate(timeout=500)
    assert process.returncode == 1
    assert "The connection to the scheduler of tcp://" in told.splitlines()[-1]
    assert "Traceback" not in told
    before = {path: path.stat().st_mtime_ns for path in (home / SLICES).glob("case_*.json")}
    assert 3 <= len(before) < CASES
    preprocess(home, raw, "--cluster", "local:2")
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was finished is kept"
    assert differing(tmp_path / "one", home) == []
