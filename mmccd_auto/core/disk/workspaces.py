"""Temporary folders for what must not stay: unpacked exports and converted scans of patients."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path

from filelock import BaseFileLock, Timeout

from mmccd_auto.core.disk.locks import take_lock
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.wording import counted

PREFIX = "mmccd-"
OWNER_FILE = ".mmccd-owner"
# A folder gets its name once its owner holds the lock in it, so that no other run takes it for a dead one's.
_UNFINISHED_PREFIX = ".new-mmccd-"
_UNFINISHED_SECONDS = 600.0
logger = logging.getLogger(__name__)


@contextmanager
def workspace(purpose: str) -> Iterator[Path]:
    """Give a temporary folder that nobody else may read; it is removed at the end, whatever ends the block.

    What killed runs of the same user left is removed first.

    Parameters
    ----------
    purpose : a word of its name, such as "predict"

    Raises
    ------
    MMCCDError
        If no temporary folder can be made.
    """
    remove_abandoned()
    folder, lock = _make(purpose)
    try:
        yield folder
    finally:
        _remove_and_release(folder, lock)


def lasting_workspace(purpose: str) -> Path:
    """Give a temporary folder as :func:`workspace` does, which is removed when this process ends.

    Raises
    ------
    MMCCDError
        If no temporary folder can be made.
    """
    remove_abandoned()
    folder, lock = _make(purpose)
    # multiprocessing's own way, which also works in the processes that it starts; the last one, as for its own folder.
    Finalize(None, _remove_and_release, args=(folder, lock), exitpriority=-100)
    return folder


def remove_abandoned(root: str | Path | None = None) -> int:
    """Remove the workspaces of runs that are dead; those of living runs and of other users are left alone.

    Parameters
    ----------
    root : folder of temporary folders; None takes the usual one (TMPDIR)

    Returns
    -------
    how many were removed
    """
    removed = 0
    with suppress(OSError), os.scandir(tempfile.gettempdir() if root is None else root) as entries:
        for entry in entries:
            with suppress(OSError):
                removed += _is_own_folder(entry) and _remove_if_abandoned(Path(entry.path))
    if removed:
        logger.info("removed %s that earlier runs had left.", counted(removed, "temporary folder"))
    return removed


def _make(purpose: str) -> tuple[Path, BaseFileLock]:
    root = tempfile.gettempdir()
    unfinished = None
    try:
        unfinished = Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED_PREFIX}{purpose}-", dir=root))
        lock = take_lock(unfinished / OWNER_FILE)
        target = Path(root, PREFIX + unfinished.name.removeprefix(_UNFINISHED_PREFIX))
        try:
            return unfinished.rename(target), lock
        except PermissionError:
            # Windows renames no folder in which a file is open: there the lock comes a moment after the name.
            lock.release()
            unfinished = unfinished.rename(target)
            return unfinished, take_lock(unfinished / OWNER_FILE)
    except OSError as error:
        if unfinished is not None:
            _remove(unfinished)
        raise MMCCDError(
            f"No temporary folder could be made in {root} ({error.strerror or error}): free some disk space there, or set "
            "TMPDIR to a folder on another disk."
        ) from error


def _is_own_folder(entry: os.DirEntry) -> bool:
    if not entry.name.startswith((PREFIX, _UNFINISHED_PREFIX)) or not entry.is_dir(follow_symlinks=False):
        return False
    state = entry.stat(follow_symlinks=False)
    # Whoever else may write there could have put links there that lead to files of this user.
    private = not stat.S_IMODE(state.st_mode) & 0o077
    return os.name == "nt" or (state.st_uid == os.getuid() and private)


def _remove_if_abandoned(folder: Path) -> bool:
    if folder.name.startswith(_UNFINISHED_PREFIX):
        # Its owner was killed between two lines.
        if time.time() - folder.stat().st_mtime < _UNFINISHED_SECONDS:
            return False
        _remove(folder)
        return True
    if not (folder / OWNER_FILE).is_file():
        return False
    try:
        lock = take_lock(folder / OWNER_FILE)
    except Timeout:
        return False
    _remove_and_release(folder, lock)
    return True


def _remove_and_release(folder: Path, lock: BaseFileLock) -> None:
    try:
        _remove(folder)
    finally:
        with suppress(OSError):
            lock.release()
        # Windows removes no file that is open, as the lock was.
        shutil.rmtree(folder, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a folder, its owner's mark last: what is left of a removal that fails is known by it."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if entry.name == OWNER_FILE:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)
    shutil.rmtree(folder, ignore_errors=True)
