"""Signals that ask a process to end: what schedulers and closed terminals send is heard as Ctrl-C is."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Not there on every system.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(KeyboardInterrupt):
    """A signal has asked this process to end.

    Attributes
    ----------
    number : of the signal
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def endings_as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise :class:`Terminated` in the main thread, where Ctrl-C raises KeyboardInterrupt.

    Only the first one does, since schedulers repeat them, and the second would cut off the removal of temporary files. What
    is ignored (``nohup``) or handled by somebody else stays so, and forked children end by these signals as they would
    without this. In another thread than the main one this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()
    heard: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif not heard:
            heard.append(number)
            raise Terminated(number)

    handled = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    for number in handled:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def exit_status(error: KeyboardInterrupt) -> int:
    """Give the exit status of a process that a signal has ended, as shells count it: 130 for Ctrl-C, 143 for SIGTERM."""
    return 128 + (error.number if isinstance(error, Terminated) else signal.SIGINT)


def describe_interrupt(error: KeyboardInterrupt) -> str:
    """Say what has ended a command, and how to go on."""
    by = f"ended by {error}" if isinstance(error, Terminated) else "interrupted"
    return f"{by}: run the same command again to continue (mmccd_predict: with --continue_prediction)."
