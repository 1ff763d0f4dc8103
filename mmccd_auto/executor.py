"""Work over cases: one executor for every stage, with bounded memory and faults kept to their case."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tqdm import tqdm

from mmccd_auto.errors import MMCCDError

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What became of one case: its result, or the sentence that says why there is none."""

    case: str
    result: Result | None
    error: str | None


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


def make_executor(processes: int) -> Executor:
    """A process pool of ``processes`` workers, or sequential work for 0.

    Workers are spawned, not forked: forking a process that holds threads (torch, ITK) can hang.
    """
    if processes < 0:
        raise MMCCDError(f"-np {processes}: the number of processes can't be negative (0 works in this process).")
    if processes == 0:
        return SequentialExecutor()
    return ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))


def run_cases(
    function: Callable[..., Result],
    arguments: Sequence[tuple[str, tuple]],
    processes: int,
    description: str,
    executor_factory: Callable[[int], Executor] = make_executor,
) -> list[Outcome[Result]]:
    """Call ``function(*args)`` for every ``(case, args)`` and return the outcomes in the given order.

    At most two cases per worker are in flight, so memory doesn't grow with the number of cases. An :class:`MMCCDError`
    ends its own case only; any other exception is a defect of ours and is raised. A worker that is killed (mostly for
    memory) is reported with the cases that were in flight, and the rest go on in a new pool.

    Parameters
    ----------
    function : importable by name, since workers are spawned
    arguments : (case, positional arguments) pairs
    processes : workers; 0 works in this process
    description : shown beside the progress bar
    executor_factory : makes the executor, so that a cluster's client can take its place
    """
    outcomes: dict[int, Outcome[Result]] = {}
    waiting = list(enumerate(arguments))[::-1]
    with tqdm(total=len(arguments), desc=description, unit="case", disable=not arguments) as progress:
        while waiting:
            with executor_factory(processes) as executor:
                _drain(executor, function, waiting, max(1, 2 * processes), outcomes, progress)
    return [outcomes[index] for index in range(len(arguments))]


def _drain(
    executor: Executor,
    function: Callable[..., Result],
    waiting: list[tuple[int, tuple[str, tuple]]],
    limit: int,
    outcomes: dict[int, Outcome[Result]],
    progress: tqdm,
) -> None:
    """Work until nothing is waiting or the pool is broken."""
    running: dict[Future, tuple[int, str]] = {}
    while waiting or running:
        while waiting and len(running) < limit:
            index, (case, args) = waiting.pop()
            running[executor.submit(function, *args)] = (index, case)
        finished, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            index, case = running.pop(future)
            try:
                outcomes[index] = Outcome(case, future.result(), None)
            except MMCCDError as error:
                outcomes[index] = Outcome(case, None, str(error))
            except BrokenProcessPool:
                _report_killed({**running, future: (index, case)}, outcomes, progress)
                return
            progress.update()


def _report_killed(running: dict[Future, tuple[int, str]], outcomes: dict[int, Outcome], progress: tqdm) -> None:
    names = ", ".join(sorted(case for _, case in running.values()))
    message = (
        f"a worker process was killed while {names} were in work, probably because memory ran out: "
        "use fewer processes (-np), or -np 0 to work on one case at a time."
    )
    logger.error(message)
    for index, case in running.values():
        outcomes[index] = Outcome(case, None, message)
        progress.update()
