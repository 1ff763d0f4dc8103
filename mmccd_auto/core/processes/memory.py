"""Memory: the C library's allocator, made to keep large blocks, and Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_NEVER = 2**31 - 1
TOP_PAD_BYTES = 64 * 1024**2
logger = logging.getLogger(__name__)


def keep_large_blocks() -> bool:
    """Let freed memory stay with this process (glibc on Linux only), for networks and filters that run on the CPU.

    By default glibc gives every large block back to the system as soon as it is free, and the next tensor of that size is
    mapped and filled with zeros again: page by page, that is up to a half of a convolution's time. The process holds on to
    all that it took, and blocks of many sizes leave gaps: long work calls :func:`release_free_blocks` from time to time.

    Returns
    -------
    whether it was possible
    """
    mallopt = _function("mallopt", ctypes.c_int, ctypes.c_int)
    if mallopt is None:
        return False
    # One arena: what one thread has freed another can take.
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, TOP_PAD_BYTES), (_ARENA_MAX, 1))
    done = [mallopt(*setting) for setting in settings]
    return all(done)


def release_free_blocks() -> bool:
    """Give the memory that is free in this process back to the system (glibc on Linux only), once.

    Returns
    -------
    whether there was any
    """
    trim = _function("malloc_trim", ctypes.c_size_t)
    return trim is not None and bool(trim(0))


def _function(name: str, *arguments: type) -> Callable[..., int] | None:
    """Return a function of glibc that returns an int; None where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None), name, None)
    if function is None:
        logger.debug("the C library has no %s: its allocator stays as it is", name)
        return None
    function.argtypes, function.restype = arguments, ctypes.c_int
    return function


@contextmanager
def only_what_is_new() -> Iterator[None]:
    """Let ``gc.collect()`` look only at what was made since: hundredths of a second instead of tenths.

    The libraries alone are hundreds of thousands of objects. All that existed before is set aside, in cycles or not, until
    the end.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
