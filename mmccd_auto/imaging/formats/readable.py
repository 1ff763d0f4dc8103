"""Which files are opened at all: regular ones, that are there and hold something."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError


def check_readable(path: str | Path) -> None:
    """Check that a file can be opened and read to its end; nothing is opened for it, so that no pipe is waited for.

    Raises
    ------
    MMCCDError
        If the file is missing, empty or not readable, a link that leads nowhere or to itself, a folder, a pipe or a device.
    """
    path = Path(path)
    try:
        state = os.stat(path)
    except OSError as error:
        raise MMCCDError(_why_missing(path, error)) from error
    if stat.S_ISDIR(state.st_mode):
        raise MMCCDError(f"{path} is a folder, whatever its name says: give a file.")
    if not stat.S_ISREG(state.st_mode):
        raise MMCCDError(f"{path} is no regular file but a pipe, a socket or a device: give a file.")
    if not os.access(path, os.R_OK):
        raise MMCCDError(f"{path} can't be opened (permission denied): check its permissions.")
    if state.st_size == 0:
        raise MMCCDError(f"{path} is empty (0 bytes): copy or export it again.")


def _why_missing(path: Path, error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return f"{path} is a link that leads back to itself: put the file there instead."
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if path.is_symlink():
            return (
                f"{path} is a link to a file that isn't there: get that file first (git annex get or datalad get, where "
                "the data are kept so) or correct the link."
            )
        return f"{path} does not exist."
    return f"{path} can't be opened ({error.strerror or error}): check its name and permissions."
