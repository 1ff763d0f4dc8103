"""What happens at a worker of a cluster: one case's call, from bytes to bytes."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mmccd_auto import __version__
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.failures import failure_of
from mmccd_auto.core.processes.memory import keep_large_blocks
from mmccd_auto.core.processes.workers import share_cores

MOST_MESSAGES = 200
"""Of one case; what says more than this is told to the worker's own log alone."""
PROGRESS = f"{__name__.split('.')[0]}.core.progress"
_PACKAGE = __name__.split(".")[0]
_prepared = False


@dataclass(frozen=True)
class Sender:
    """What a call needs to know of the process that sent it.

    Attributes
    ----------
    version : of this package there
    folder : its current folder, to which relative paths are relative
    level : of the least message that it shows
    """

    version: str
    folder: str
    level: int


@dataclass(frozen=True)
class Reply:
    """What a call came to.

    Attributes
    ----------
    result : of the call; None where it failed
    failure : why there is none
    messages : (logger, level, text, case) of what was said meanwhile
    """

    result: Any
    failure: MMCCDError | MemoryError | None
    messages: tuple[tuple[str, int, str, str | None], ...]


def packed(function: Callable[..., Any], args: tuple) -> bytes:
    """Make the bytes of a call: the scheduler hands them on and looks at nothing in them."""
    return pickle.dumps((function, args), protocol=pickle.HIGHEST_PROTOCOL)


def answer(call: bytes, sender: Sender) -> bytes:
    """Make a call at a worker and give its :class:`Reply` as bytes.

    Nothing is raised that ends a case alone: dask would write the call's arguments into the worker's log.

    Parameters
    ----------
    call : of :func:`packed`
    sender : who asks
    """
    collector = _Collector(sender.level)
    logger = logging.getLogger(_PACKAGE)
    before = logger.level
    logger.addHandler(collector)
    logger.setLevel(sender.level)
    try:
        _prepare(sender)
        function, args = pickle.loads(call)
        reply = pickle.dumps(Reply(function(*args), None, tuple(collector.messages)))
    except Exception as error:
        failure = failure_of(error)
        # Without the frames and what led to it, which can't always be sent and may hold the case's arrays.
        failure.__traceback__ = failure.__cause__ = failure.__context__ = None
        reply = pickle.dumps(Reply(None, failure, tuple(collector.messages)))
    finally:
        logger.setLevel(before)
        logger.removeHandler(collector)
    return reply


class _Collector(logging.Handler):
    """Keeps what is said while a case is in work, so that it is told where the command was given."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.messages: list[tuple[str, int, str, str | None]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one message; how far the case is isn't told, since others are in work beside it."""
        if record.name != PROGRESS and len(self.messages) < MOST_MESSAGES:
            self.messages.append((record.name, record.levelno, record.getMessage(), getattr(record, "case", None)))


def _prepare(sender: Sender) -> None:
    """Make this process a worker like those of a pool, and look from the folder of the command."""
    global _prepared
    if sender.version != __version__:
        raise MMCCDError(
            f"A worker of the cluster has mmccd_auto {__version__}, and the command is of {sender.version}: install the "
            "same version on both."
        )
    if not _prepared:
        keep_large_blocks()
        # Whoever starts the workers says by this variable how many cores each has; dask sets it to 1 where nobody does.
        share_cores(max(1, _whole(os.environ.get("OMP_NUM_THREADS", ""))))
        _prepared = True
    try:
        os.chdir(sender.folder)
    except OSError as error:
        raise MMCCDError(
            f"A worker of the cluster can't enter {sender.folder} ({error.strerror or error}), the folder in which the "
            "command was given: give it in a folder that all machines share."
        ) from error


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else 1
