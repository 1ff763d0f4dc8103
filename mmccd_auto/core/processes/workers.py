"""What happens in a worker process: its share of the machine, its interrupts, and how its errors travel."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from mmccd_auto.core.processes.failures import failure_of
from mmccd_auto.core.processes.memory import keep_large_blocks
from mmccd_auto.core.processes.signals import ENDING

Result = TypeVar("Result")
HEARD = {signal.SIGINT, *ENDING}
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")


class _Interrupts:
    """A worker's Ctrl-C: cuts off the case in work, whose temporary files are then removed, and refuses the next ones.

    The worker itself lives on until the pool is closed: one that ends early would make the pool end the others at once. A
    worker that is asked to end (SIGTERM, SIGHUP) ends as soon as the case in work is cut off.
    """

    def __init__(self) -> None:
        self.working = False
        self.interrupted = False
        self.status: int | None = None

    def handle(self, *_: object) -> None:
        """Cut off the case in work: the handler of Ctrl-C."""
        cut_off = self.working and not self.interrupted
        self.interrupted = True
        if cut_off:
            raise KeyboardInterrupt

    def end(self, number: int, *_: object) -> None:
        """Cut off the case in work and end this process: the handler of signals that ask for it."""
        self.status = 128 + number
        if not self.working:
            os._exit(self.status)
        self.handle()

    def call(self, function: Callable[..., Result], args: tuple) -> Result:
        """Call ``function`` so that an interrupt can cut it off."""
        self.working = True
        try:
            if self.interrupted:
                raise KeyboardInterrupt
            return function(*args)
        finally:
            self.working = False
            if self.status is not None:
                os._exit(self.status)


_interrupts = _Interrupts()


def work_on(function: Callable[..., Result], args: tuple) -> Result:
    """Call ``function``; what it raises is made ready to be sent to another process.

    Raises
    ------
    MMCCDError or MemoryError
        In place of every exception.
    """
    try:
        return _interrupts.call(function, args)
    except Exception as error:
        failure = failure_of(error)
        # Without the frames, which hold the case's arrays.
        error.__traceback__ = None
    raise failure


def start_worker(threads: int, environment: dict[str, str]) -> None:
    """Give a worker its share of threads, an allocator that keeps the volumes' memory, and see to Ctrl-C."""
    keep_large_blocks()
    os.environ.clear()
    os.environ.update(environment)
    share_cores(threads)
    signal.signal(signal.SIGINT, _interrupts.handle)
    for number in ENDING:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupts.end)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)


def share_cores(threads: int) -> None:
    """Give this process's numerical libraries their share of threads, those that are loaded and those that will be."""
    for name in _THREAD_VARIABLES:
        os.environ.setdefault(name, str(threads))
    # What is loaded by now has read the variables already.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "SimpleITK" in sys.modules:
        sys.modules["SimpleITK"].ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
