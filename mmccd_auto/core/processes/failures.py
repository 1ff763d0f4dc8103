"""What ends one case and not the others: every exception becomes a sentence, and defects stay visible as such."""

from __future__ import annotations

import re
import traceback

from mmccd_auto.core.errors import MMCCDError

_PACKAGE = __name__.split(".")[0]
_ROOM = __name__.rpartition(".")[0]
_CALLERS = (__name__, *(f"{_ROOM}.{module}" for module in ("executor", "workers", "streams")))
# As ITK, torch, numpy and Python's threads say it.
_NO_MEMORY = re.compile(
    "allocate memory|enough memory|out of memory|bad_alloc|bad allocation|start new thread", re.IGNORECASE
)
_ITK_TEXT = re.compile(r"itk::ERROR: [^:]*\(0x[0-9a-f]+\): (?P<text>[^\n]*)")


class Defect(MMCCDError):
    """An error that nobody foresaw, in a sentence.

    Attributes
    ----------
    details : the traceback, for those who can fix it; unlike the sentence it may name files
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class ClusterLost(MMCCDError):
    """The scheduler of a cluster is gone: nothing is known of the cases in work, and no other can be worked on."""


class WorkerLost(Exception):
    """A cluster's worker died while it had a case in work.

    Attributes
    ----------
    workers : that died over the case one after another
    """

    def __init__(self, workers: int) -> None:
        super().__init__(workers)
        self.workers = workers


def failure_of(error: Exception) -> MMCCDError | MemoryError:
    """Turn what ended a case into something that can be reported: its own sentence, a lack of memory, or a :class:`Defect`.

    The result can be sent to another process, which not every exception can.
    """
    if isinstance(error, MMCCDError):
        return error
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return MemoryError(str(error))
    defect = Defect(
        f"an unexpected {type(error).__name__}{_reason(error)} in {_place(error)}: please report it, with what --verbose "
        "shows, or leave this case out.",
        "".join(traceback.format_exception(type(error), error, error.__traceback__)),
    )
    defect.__cause__ = error
    return defect


def sentence_of(case: str, error: MMCCDError | MemoryError) -> str:
    """Give the sentence on a case's failure; that of a defect names the case, all others name their file."""
    if isinstance(error, MemoryError):
        return f"{case} needs more memory than there is: free some, or leave this case out."
    return f"{case}: {error}" if isinstance(error, Defect) else str(error)


def _reason(error: Exception) -> str:
    """Describe what can be said of an error without naming files, which may be called by a patient's name."""
    found = _ITK_TEXT.search(str(error))
    text = error.strerror if isinstance(error, OSError) else found["text"].strip(" .") if found else None
    return f" ({text})" if text and "/" not in text and "\\" not in text else ""


def _place(error: Exception) -> str:
    """Return the innermost place of this package where an error passed; else where it was raised."""
    frames = list(traceback.walk_tb(error.__traceback__))
    modules = [(frame.f_globals.get("__name__", "?"), line) for frame, line in frames]
    own = [place for place in modules if place[0].split(".")[0] == _PACKAGE and place[0] not in _CALLERS]
    module, line = (own or modules or [("?", 0)])[-1]
    return f"{module}, line {line}"
