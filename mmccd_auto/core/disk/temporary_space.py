"""Room in the temporary folder, so that a full disk is named as such and not as a damaged scan."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError

# A disk with less room than this counts as full where something could not be written.
NEARLY_FULL = 2**20
_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})


def check_room(folder: str | Path, needed: int, what: str) -> None:
    """Check that a temporary folder has room.

    Parameters
    ----------
    folder : whose disk it is; its nearest parent counts where it doesn't exist
    needed : bytes
    what : needs them, as the beginning of a sentence

    Raises
    ------
    MMCCDError
        If there is less room.
    """
    free = _free(folder)
    if free < needed:
        raise MMCCDError(
            f"{what} needs {_amount(needed)} of the temporary folder, which has {_amount(free)} left: free some space or "
            "set TMPDIR to a folder on another disk."
        )


def describe_full(what: str) -> str:
    """Say that something found no room in the temporary folder."""
    return (
        f"{what} found no room in the temporary folder, whose disk is full: free some space or set TMPDIR to a folder on "
        "another disk."
    )


def is_full(folder: str | Path, error: OSError | None = None, needed: int = NEARLY_FULL) -> bool:
    """Say whether a failure comes from a full disk: by the system's error, else by what is left."""
    if error is not None and error.errno in _FULL_DISK:
        return True
    return _free(folder) < max(needed, NEARLY_FULL)


def _free(folder: str | Path) -> int:
    path = Path(folder).absolute()
    return shutil.disk_usage(next(parent for parent in (path, *path.parents) if parent.exists())).free


def _amount(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
