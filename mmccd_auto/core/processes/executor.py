"""Work over cases: one executor for every stage, with bounded memory and faults kept to their case."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar

from mmccd_auto.core.disk.workspaces import lasting_workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.cluster.connection import Cluster
from mmccd_auto.core.processes.failures import ClusterLost, Defect, WorkerLost, failure_of, sentence_of
from mmccd_auto.core.processes.workers import HEARD, start_worker, work_on
from mmccd_auto.core.progress import Progress

Result = TypeVar("Result")
Workers: TypeAlias = int | Cluster
"""Processes of this machine (0 works in this process), or those of a cluster."""
LOOK_AGAIN_SECONDS = 2.0
logger = logging.getLogger(__name__)

MOST_ON_WINDOWS = 61
"""Workers that a pool can wait for there."""
# Those that take long to load. The threads that they start by that (BLAS, blosc2) survive a fork, or no worker calls them.
# None of this package: the server doesn't know where the script that started this process has found it.
_LIBRARIES = ("torch", "SimpleITK", "scipy.ndimage", "blosc2")


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one case: its result, or the sentence that says why there is none."""

    case: str
    result: Result | None
    error: str | None


@dataclass(frozen=True)
class _Call:
    """One case's call, and its place in the order that was asked for."""

    index: int
    case: str
    args: tuple


class SequentialExecutor(Executor):
    """Runs each call at once, in this process (``-np 0``: least memory, full tracebacks, works under any scheduler)."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Run ``function`` now and return its finished future."""
        future: Future = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _Pool(ProcessPoolExecutor):
    """A process pool whose workers load no file of the current folder, and that is broken where none can be started."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        """Hand a call to a worker, which is started here if need be.

        Raises
        ------
        BrokenExecutor
            If a worker was lost or could not be started.
        """
        try:
            with _starting_processes():
                return super().submit(function, *args, **kwargs)
        except (EOFError, OSError) as error:
            _server.give_up(error)
            raise BrokenProcessPool("a worker process could not be started") from error

    def interrupt(self) -> None:
        """Cut off the cases in work, as Ctrl-C does in a terminal, where the workers hear it themselves."""
        for process in list((self._processes or {}).values()):
            with suppress(OSError):
                if os.name != "nt" and process.pid is not None and process.is_alive():
                    os.kill(process.pid, signal.SIGINT)


def make_executor(processes: Workers) -> Executor:
    """Make a process pool of ``processes`` workers, or sequential work for 0, or the workers of a cluster.

    Workers aren't forked from this process: forking one that holds threads (torch, ITK) can hang. They share the machine's
    cores, so that their numerical libraries don't start a thread per core each, and they see the environment variables as
    they are now (but torch, if a server has loaded it for them, has read its own when that was started). In a daemonic
    process, which may not have children (some schedulers work so), the work is sequential.

    Raises
    ------
    MMCCDError
        If ``processes`` is negative.
    """
    if isinstance(processes, Cluster):
        return processes.executor()
    if processes < 0:
        raise MMCCDError(f"-np {processes}: the number of processes can't be negative (0 works in this process).")
    if processes > 0 and multiprocessing.current_process().daemon:
        logger.warning("This process may not start others: the cases are worked on one after another.")
        processes = 0
    if processes == 0:
        return SequentialExecutor()
    if sys.platform == "win32":
        processes = min(processes, MOST_ON_WINDOWS)
    threads = max(1, (os.cpu_count() or 1) // processes)
    return _Pool(processes, mp_context=_context(), initializer=start_worker, initargs=(threads, dict(os.environ)))


def load_libraries_early() -> None:
    """Let the server that workers come from load its libraries beside this process, which loads its own meanwhile."""
    # Where that fails, it fails again and is reported when workers are needed.
    with suppress(Exception):
        if _server.possible:
            _server.start()


class _Server:
    """The process that workers are forked from: it has loaded the libraries once, for all pools of this process.

    Attributes
    ----------
    possible : whether it can be had. Before Python 3.11, or if Python is set to read no environment variables, it could
        not be kept from loading modules out of the current folder
    """

    def __init__(self) -> None:
        heeds_safe_path = sys.version_info >= (3, 11) and (sys.flags.isolated or not sys.flags.ignore_environment)
        self.possible = sys.platform == "linux" and heeds_safe_path
        self.folder: Path | None = None

    def start(self) -> None:
        """Start it unless it runs."""
        # Else multiprocessing makes a folder for its sockets, which stays where this process is killed.
        self.folder = self.folder or lasting_workspace("workers")
        process = multiprocessing.current_process()
        process._config.setdefault("tempdir", str(self.folder))  # type: ignore[attr-defined]  # Python has no public door to it.
        forkserver.set_forkserver_preload(list(_LIBRARIES))
        _start_tracker()
        with _starting_processes():
            forkserver.ensure_running()

    def give_up(self, error: Exception) -> None:
        """Do without it from now on."""
        if self.possible:
            logger.info("Worker processes are started one by one, which takes longer: their server failed (%s).", error)
        self.possible = False


_server = _Server()


def _context() -> multiprocessing.context.BaseContext:
    """Return how workers are started: by the server, or each on its own where there is none."""
    try:
        if _server.possible:
            _server.start()
            return multiprocessing.get_context("forkserver")
    except (OSError, MMCCDError) as error:
        # The name of its socket is limited to some 100 letters, for instance, and begins with TMPDIR.
        _server.give_up(error)
    _start_tracker()
    return multiprocessing.get_context("spawn")


def _start_tracker() -> None:
    """Start the process that multiprocessing wants to have beside all others; it lets interrupts through when it starts."""
    if os.name == "posix":
        with _starting_processes():
            resource_tracker.ensure_running()


@contextmanager
def _starting_processes() -> Iterator[None]:
    """See that processes of Python's that are started meanwhile look for no module in the current folder.

    Also let them survive Ctrl-C and the signals that ask for an end.

    They would look there first, before they hear where this process looks; from Python 3.11 they can be kept from it. A
    signal waits until :func:`mmccd_auto.core.processes.workers.start_worker` sees to it, or for good in the server.
    """
    before = os.environ.get("PYTHONSAFEPATH")
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD) if hasattr(signal, "pthread_sigmask") else None
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        del os.environ["PYTHONSAFEPATH"]
        if before is not None:
            os.environ["PYTHONSAFEPATH"] = before
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def run_cases(
    function: Callable[..., Result],
    arguments: Sequence[tuple[str, tuple]],
    processes: Workers,
    description: str,
    executor_factory: Callable[[Workers], Executor] = make_executor,
) -> list[Outcome[Result]]:
    """Call ``function(*args)`` for every ``(case, args)`` and return the outcomes in the given order.

    At most two cases per worker are in flight (one at a cluster), so memory doesn't grow with the number of cases. An
    exception ends its own case only; the sentence on one that is no :class:`MMCCDError` says that it is a defect, and where,
    and its traceback is logged for ``--verbose``. When a worker is killed (mostly for memory) or memory runs out, the cases
    that were in flight are tried again one at a time, those of a cluster each at another worker after all others: the case
    that fails even so is reported, the others go on. So ``function`` must stand being called again after it was cut off.

    Parameters
    ----------
    function : importable by name, since workers are processes of their own
    arguments : (case, positional arguments) pairs
    processes : workers; 0 works in this process; or a cluster
    description : shown beside the progress bar
    executor_factory : makes the executor
    """
    outcomes: dict[int, Outcome[Result]] = {}
    waiting = deque(_Call(index, case, args) for index, (case, args) in enumerate(arguments))
    suspects: deque[_Call] = deque()
    cluster, here = (processes, 0) if isinstance(processes, Cluster) else (None, processes)
    with Progress(len(arguments), description, "case", disable=not arguments) as progress:
        while waiting or suspects:
            again = bool(suspects)
            queue = suspects or waiting
            if cluster is not None:
                unfinished = _drain(executor_factory(cluster), function, queue, cluster.workers, outcomes, progress)
            else:
                workers = min(here, 1 if again else len(queue))
                again = again or here == 0
                limit = partial(int, 1 if again else 2 * workers)
                unfinished = _drain(executor_factory(workers), function, queue, limit, outcomes, progress)
            if unfinished and not again:
                where = "at other workers" if cluster is not None else "one at a time"
                logger.warning("A worker process was lost; tried again %s: %s", where, _names(unfinished))
                suspects.extend(unfinished)
                continue
            for call in unfinished:
                outcomes[call.index] = _killed(call, cluster is not None)
                progress.update()
    return [outcomes[index] for index in range(len(arguments))]


def _drain(
    executor: Executor,
    function: Callable[..., Result],
    queue: deque[_Call],
    limit: Callable[[], int],
    outcomes: dict[int, Outcome[Result]],
    progress: Progress,
) -> list[_Call]:
    """Work until the queue is empty or the executor is broken; return the calls that were lost on the way."""
    running: dict[Future, _Call] = {}
    try:
        unfinished = _work(executor, function, queue, limit, running, outcomes, progress)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and isinstance(executor, _Pool):
            executor.interrupt()
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown(wait=True)
    return unfinished


def _work(
    executor: Executor,
    function: Callable[..., Result],
    queue: deque[_Call],
    limit: Callable[[], int],
    running: dict[Future, _Call],
    outcomes: dict[int, Outcome[Result]],
    progress: Progress,
) -> list[_Call]:
    unfinished: list[_Call] = []
    broken = False
    while running or (queue and not broken):
        while queue and not broken and len(running) < limit():
            call = queue.popleft()
            try:
                running[executor.submit(work_on, function, call.args)] = call
            except BrokenExecutor:
                unfinished.append(call)
                broken = True
        if not running:
            # The executor is broken, or its cluster has no worker yet.
            time.sleep(0 if broken else LOOK_AGAIN_SECONDS)
        # More workers may have come meanwhile.
        finished, _ = wait(running, timeout=LOOK_AGAIN_SECONDS, return_when=FIRST_COMPLETED)
        for future in finished:
            call = running.pop(future)
            outcome = _outcome(future, call)
            if outcome is None:
                unfinished.append(call)
                broken = broken or isinstance(future.exception(), BrokenExecutor)
            else:
                outcomes[call.index] = outcome
                progress.update()
    return sorted(unfinished, key=lambda call: call.index)


def _outcome(future: Future, call: _Call) -> Outcome | None:
    """Return the finished call's outcome; None where the worker was killed or had too little memory."""
    try:
        return Outcome(call.case, future.result(), None)
    except (BrokenExecutor, MemoryError):
        return None
    except WorkerLost as error:
        return None if error.workers == 1 else _killed(call, at_cluster=True)
    except KeyboardInterrupt:
        # The worker noticed Ctrl-C before this process did; where it was cut off is of no use to anybody.
        raise KeyboardInterrupt from None
    except ClusterLost:
        raise
    except Exception as error:
        # What isn't an MMCCDError by now came up on the way: a result that can't be sent, say.
        failure = failure_of(error)
        if isinstance(failure, MemoryError):
            return None
        if isinstance(failure, Defect):
            logger.debug("%s: %s", call.case, failure.details)
        return Outcome(call.case, None, sentence_of(call.case, failure))


def _killed(call: _Call, at_cluster: bool) -> Outcome:
    where, remedy = (
        "its process was killed or ran out of memory, even with no other case beside it",
        "use a machine with more",
    )
    if at_cluster:
        where, remedy = (
            "its worker was lost or ran out of memory, and so did the one that it was tried at again",
            "give workers more",
        )
    message = f"{call.case} could not be worked on: {where}: free some memory, {remedy}, or leave this case out."
    logger.error(message)
    return Outcome(call.case, None, message)


def _names(calls: Sequence[_Call]) -> str:
    return ", ".join(call.case for call in calls)
