"""The C library's allocator, told to keep large blocks."""

from __future__ import annotations

import ctypes
import logging
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
TOP_PAD_BYTES = 64 * 1024**2
logger = logging.getLogger(__name__)


def keep_large_blocks() -> bool:
    """Let freed memory stay with this process (glibc on Linux only), for networks and filters that run on the CPU.

    By default glibc gives every large block back to the system as soon as it is free, and the next tensor of that size is
    mapped and filled with zeros anew: page by page, that is up to a half of a convolution's time. What the process takes at
    most stays the same; it holds on to it until it ends.

    Returns
    -------
    whether it was possible
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        logger.debug("the C library has no mallopt: its allocator stays as it is")
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, _NEVER), mallopt(_TOP_PAD, TOP_PAD_BYTES)])
