"""Runs commands in processes that are forked from one that has loaded all libraries: seconds less for each try.

Started as a script it is that process: it reads a request per line (JSON) and answers with a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

# By functions of ours, when they need them.
LOADED_LATE = (
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "nilearn.datasets",
    "pandas",
    "dcm2niix",
    "torch.testing",
)
LIMIT_SECONDS = 240.0
POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Ended:
    """How a try ended.

    Attributes
    ----------
    status : exit status; below 0 the signal that killed it
    seconds, cpu : that it took, by the clock and of the processor
    said : standard output and error
    hung : it was killed at the time limit
    left_running : a process that it had started was there a while after its end
    """

    status: int
    seconds: float
    cpu: float
    said: str
    hung: bool
    left_running: bool


class CommandRunner:
    """The process from which tries are forked.

    Parameters
    ----------
    folder : for what the tries say
    """

    def __init__(self, folder: Path) -> None:
        self.log = folder / "said.txt"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("mmccd_")}
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(
        self,
        command: str,
        arguments: list[str],
        folder: Path,
        temporary: Path,
        kill_after: float | None = None,
        number: int = signal.SIGKILL,
        limit: float = LIMIT_SECONDS,
    ) -> Ended:
        """Run a command in ``folder``, with ``temporary`` as its TMPDIR; send it a signal after a while if that is asked."""
        request = {
            "command": command,
            "arguments": [str(one) for one in arguments],
            "folder": str(folder),
            "temporary": str(temporary),
            "log": str(self.log),
            "kill_after": kill_after,
            "signal": int(number),
            "limit": limit,
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return Ended(**answer, said=self.log.read_text(errors="replace"))

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def _serve() -> None:
    import torch

    import mmccd_auto

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(mmccd_auto.__path__, "mmccd_auto."):
        import_module(module.name)
    for name in LOADED_LATE:
        import_module(name)
    tempfile.tempdir = None
    for line in sys.stdin:
        request = json.loads(line)
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _become(request)
        answer = _watch(child, request, started)
        print(json.dumps(answer), flush=True)


def _become(request: dict) -> None:
    """Turn this forked process into the command; doesn't return."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ["TMPDIR"] = request["temporary"]
    log = os.open(request["log"], os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    for descriptor, target in ((os.open(os.devnull, os.O_RDONLY), 0), (log, 1), (log, 2)):
        os.dup2(descriptor, target)
    sys.argv = [f"mmccd_{request['command']}", *request["arguments"]]
    getattr(import_module("mmccd_auto.cli.entry_points"), request["command"])()
    sys.exit(0)


def _watch(child: int, request: dict, started: float) -> dict:
    """Wait for a child, kill it when asked or too late, and see that nothing of it goes on."""
    hung = False
    kill_at = None if request["kill_after"] is None else started + request["kill_after"]
    while True:
        done, state, used = os.wait4(child, os.WNOHANG)
        if done:
            break
        now = time.monotonic()
        if kill_at is not None and now >= kill_at:
            os.kill(child, request["signal"])
            kill_at = None
        if now - started > request["limit"]:
            hung = True
            os.kill(child, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    answer = {
        "status": os.waitstatus_to_exitcode(state),
        "seconds": time.monotonic() - started,
        "cpu": used.ru_utime + used.ru_stime,
        "hung": hung,
    }
    return {**answer, "left_running": not _group_ends(child)}


def _group_ends(group: int, patience: float = 60.0) -> bool:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return False


if __name__ == "__main__":
    _serve()
