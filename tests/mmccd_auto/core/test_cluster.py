"""Cases at the workers of a cluster: the same outcomes as in one process, whatever dies meanwhile."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.cluster.connection import connected_cluster
from mmccd_auto.core.processes.cluster.starting import parse_place
from mmccd_auto.core.processes.executor import run_cases

distributed = pytest.importorskip("distributed")

WORK = '''
import logging, os, signal, time
from pathlib import Path
from mmccd_auto.core.errors import MMCCDError

def note(folder, number):
    """Who has worked on a case, and how often."""
    with open(Path(folder) / f"case{number}", "a") as file:
        file.write(f"{os.getpid()}\\n")

def square(number, folder, seconds=0.0):
    note(folder, number)
    time.sleep(seconds)
    return number * number

def misbehave(number, folder):
    note(folder, number)
    logging.getLogger("mmccd_auto.work").warning("case %d is odd", number)
    if number == 2:
        raise MMCCDError("case2.nii.gz is broken: fix it.")
    if number == 3:
        return 1 // 0
    if number == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 5:
        return lambda: number
    if number == 6 and len((Path(folder) / "case6").read_text().split()) == 1:
        raise MemoryError
    return number * number
'''


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A module that workers can import."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "work_at_cluster.py").write_text(WORK)
    monkeypatch.syspath_prepend(str(folder))
    # Workers are processes that know nothing of this one's path.
    monkeypatch.setenv("PYTHONPATH", str(folder))
    sys.modules.pop("work_at_cluster", None)
    import work_at_cluster

    (tmp_path / "seen").mkdir()
    yield work_at_cluster
    sys.modules.pop("work_at_cluster", None)


class Processes:
    """A scheduler and workers of dask, each a process of its own as on machines of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = ""
        self.scheduler: subprocess.Popen | None = None
        self.workers: list[subprocess.Popen] = []

    def start_scheduler(self) -> None:
        file = self.folder / f"scheduler{time.monotonic_ns()}.json"
        environment = {**os.environ, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
        self.scheduler = self._start(
            "distributed.cli.dask_scheduler",
            *("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)),
            environment=environment,
        )
        wait_for(lambda: file.is_file() and file.read_text().endswith("}"))
        self.address = json.loads(file.read_text())["address"]

    def start_worker(self, threads: int = 1) -> None:
        options = ("--nthreads", str(threads), "--no-nanny", "--no-dashboard", "--local-directory", str(self.folder))
        self.workers.append(self._start("distributed.cli.dask_worker", self.address, *options))

    def _start(self, module: str, *options: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
        log = (self.folder / "log.txt").open("ab")
        return subprocess.Popen(
            [sys.executable, "-m", module, *options], env=environment, cwd=self.folder, stdout=log, stderr=log
        )

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process is not None:
                process.kill()
                process.wait()


@pytest.fixture
def processes(tmp_path):
    folder = tmp_path / "dask"
    folder.mkdir()
    started = Processes(folder)
    yield started
    started.end()


def numbered(count, *more):
    return [(f"case{number}", (number, *more)) for number in range(count)]


def wait_for(happened, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def attempts(folder: Path) -> dict[str, int]:
    return {path.name: len(path.read_text().split()) for path in folder.iterdir()}


def test_faults_are_kept_to_their_case_and_told_here(work, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    seen = tmp_path / "seen"
    with connected_cluster("local:2") as cluster:
        assert cluster.here
        outcomes = run_cases(work.misbehave, numbered(12, str(seen)), cluster, "test")
    assert [one.case for one in outcomes] == [f"case{number}" for number in range(12)]
    good = [0, 1, 6, 7, 8, 9, 10, 11]
    assert {number: outcomes[number].result for number in good} == {number: number**2 for number in good}
    assert outcomes[2].error == "case2.nii.gz is broken: fix it."
    assert outcomes[3].error.startswith("case3: an unexpected ZeroDivisionError in work_at_cluster")
    assert outcomes[4].error.startswith("case4 could not be worked on: its worker was lost")
    assert outcomes[5].error.startswith("case5: an unexpected")
    # The one that kills its worker, and the one that was short of memory, had a second attempt; no other one had.
    assert attempts(seen) == {f"case{number}": 2 if number in (4, 6) else 1 for number in range(12)}
    assert "case 7 is odd" in caplog.text


def test_two_workers_killed_in_the_middle_lose_nothing(work, tmp_path, processes):
    seen = tmp_path / "seen"
    processes.start_scheduler()
    for _ in range(4):
        processes.start_worker()
    killed: list[subprocess.Popen] = []

    def kill() -> None:
        """Kill the first two workers that have a case in work."""
        while len(killed) < 2:
            time.sleep(0.05)
            at_work = {int(text) for path in seen.iterdir() for text in path.read_text().split()}
            for process in processes.workers:
                if process.pid in at_work and process not in killed and len(killed) < 2:
                    process.kill()
                    killed.append(process)

    killer = threading.Thread(target=kill, daemon=True)
    with connected_cluster(processes.address) as cluster:
        assert not cluster.here
        killer.start()
        outcomes = run_cases(work.square, numbered(30, str(seen), 0.2), cluster, "test")
    killer.join()
    assert [one.result for one in outcomes] == [number**2 for number in range(30)]
    counts = attempts(seen)
    assert len(counts) == 30
    # Only what was in work at a killed worker was worked on again.
    assert sum(counts.values()) - 30 <= 2


def test_a_lost_scheduler_ends_the_command_by_a_sentence(work, tmp_path, processes):
    processes.start_scheduler()
    processes.start_worker()
    seen = tmp_path / "seen"
    with connected_cluster(processes.address) as cluster:
        killer = threading.Thread(target=lambda: (wait_for(lambda: len(attempts(seen)) > 2), processes.scheduler.kill()))
        killer.start()
        with pytest.raises(
            MMCCDError, match=r"connection to the scheduler of tcp://.* was lost.*run the same command again"
        ):
            run_cases(work.square, numbered(1000, str(seen), 0.05), cluster, "test")
        killer.join()
    assert len(attempts(seen)) < 1000


def test_workers_with_several_threads_are_refused(processes):
    processes.start_scheduler()
    processes.start_worker(threads=2)
    with (
        connected_cluster(processes.address) as cluster,
        pytest.raises(MMCCDError, match=r"works in 2 threads: start workers by dask worker --nthreads 1"),
    ):
        wait_for(lambda: time.sleep(0.5) or cluster.workers() > 0)


def test_cases_wait_for_workers_that_come_later(work, tmp_path, processes):
    processes.start_scheduler()
    later = threading.Timer(1.0, processes.start_worker)
    with connected_cluster(processes.address) as cluster:
        later.start()
        outcomes = run_cases(work.square, numbered(3, str(tmp_path / "seen")), cluster, "test")
    later.join()
    assert [one.result for one in outcomes] == [0, 1, 4]


def test_workers_come_as_jobs_of_a_queue(work, tmp_path, monkeypatch):
    """By a pretended sbatch, which keeps a copy of the job's script, as SLURM does, and runs it at once on this machine."""
    pytest.importorskip("dask_jobqueue")
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "sbatch").write_text(
        f'#!/bin/bash\ncp "$1" {tmp_path}/job.sh\nbash {tmp_path}/job.sh > {tmp_path}/job.txt 2>&1 &\n'
        'echo "Submitted batch job $!"\n'
    )
    (commands / "scancel").write_text('#!/bin/bash\nkill "$1"\n')
    for command in commands.iterdir():
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "slurm.yaml"
    file.write_text(
        "cluster: SLURMCluster\njobs: 1\noptions:\n  cores: 4\n  processes: 1\n  memory: 2GB\n"
        '  walltime: "00:10:00"\n  interface: lo\n  queue: night\n'
    )
    with connected_cluster(str(file)) as cluster:
        outcomes = run_cases(work.square, numbered(4, str(tmp_path / "seen")), cluster, "test")
        assert cluster.workers() == 1
        script = (tmp_path / "job.sh").read_text()
        address = re.search(r"tls://([\d.]+):(\d+)", script)
        # Who has no key of this cluster can't send it work.
        with pytest.raises(OSError, match=r"."), distributed.Client(f"tcp://{address[1]}:{address[2]}", timeout=5):
            pass
    assert [one.result for one in outcomes] == [0, 1, 4, 9]
    assert "#SBATCH -p night" in script


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("local:0", "give 1 to 4096 workers"),
        ("somewhere", "is no cluster: give tcp://HOST:PORT, local:N, or a .json or .yaml file"),
        ("missing.json", "can't be read"),
        ("odd.yaml", "unknown entry queue"),
        ("class.yaml", "cluster"),
        ("time.yaml", "put the walltime between quotes"),
        ("broken.json", "neither JSON nor YAML"),
        ("list.yaml", "options"),
        ("text.yaml", "options"),
        ("lines.yaml", "job_script_prologue is a list of lines"),
        ("itself.yaml", "refers to itself"),
    ],
)
def test_what_names_no_cluster_is_refused(tmp_path, monkeypatch, name, told):
    monkeypatch.chdir(tmp_path)
    Path("odd.yaml").write_text("cluster: SLURMCluster\njobs: 2\nqueue: long\n")
    Path("class.yaml").write_text("cluster: LocalCluster\njobs: 2\n")
    Path("time.yaml").write_text("cluster: SLURMCluster\njobs: 2\noptions: {walltime: 12:00:00}\n")
    Path("broken.json").write_text('{"cluster": ')
    for name_of, options in (
        ("list", "[1]"),
        ("text", "text"),
        ("lines", "{job_script_prologue: module load x}"),
        ("itself", "&a {b: *a}"),
    ):
        Path(f"{name_of}.yaml").write_text(f"cluster: SLURMCluster\njobs: 2\noptions: {options}\n")
    with pytest.raises(MMCCDError, match=told):
        parse_place(name)


def test_no_scheduler_is_told(monkeypatch):
    monkeypatch.setattr("mmccd_auto.core.processes.cluster.connection.CONNECT_SECONDS", 1.0)
    with pytest.raises(MMCCDError, match=r"no scheduler at tcp://127\.0\.0\.1:9"), connected_cluster("tcp://127.0.0.1:9"):
        pass
