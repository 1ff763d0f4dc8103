"""One writer per folder: locks that the operating system releases when their holder dies, whatever kills it."""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from mmccd_auto.core.errors import MMCCDError

LOCK_FILE = ".mmccd-lock"
HOLDER_FILE = ".mmccd-lock.json"
# A run that is ending at this moment is no reason to refuse the next one.
PATIENCE_SECONDS = 1.0
_NO_LOCKS_HERE = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_LARGEST_RECORD = 4096
_threads_that_hold: dict[str, int] = {}


@contextmanager
def folder_lock(folder: str | Path, what: str, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Hold a folder for writing, and refuse it while another run, here or on another machine, writes to it.

    The folder is made where it is missing, and removed again if nothing was put into it. The thread that holds it may take
    it again. Nothing of the lock is left in the folder at the end. A killed run leaves two small hidden files, which block
    nobody: its lock ended with it.

    Parameters
    ----------
    folder : that is written to
    what : is written there ("maps", "a fold"), for the sentence that another run gets
    patience : s to wait for another run

    Raises
    ------
    MMCCDError
        If another run holds the folder, or it can't be made or written to.
    """
    folder = Path(folder)
    key = os.path.realpath(folder)
    if _threads_that_hold.get(key) == threading.get_ident():
        yield
        return
    hold = _Hold.take(folder, what, patience)
    _threads_that_hold[key] = threading.get_ident()
    try:
        yield
    finally:
        del _threads_that_hold[key]
        hold.end()


def take_lock(path: Path, patience: float = 0.0) -> BaseFileLock:
    """Lock a file, made where it is missing, until the lock is released or this process ends.

    On a file system without locks, a file that names its owner stands in for one; it outlives a killed owner until another
    process of the same machine sees that the owner is gone.

    Parameters
    ----------
    path : of the file
    patience : s to wait for another holder

    Raises
    ------
    filelock.Timeout
        If another holds it.
    OSError
        If the file can't be made or locked.
    """
    # Not for one thread: generators may be closed by another one than has opened them.
    lock: BaseFileLock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=patience)
    except OSError as error:
        if isinstance(error, Timeout) or error.errno not in _NO_LOCKS_HERE:
            raise
        lock = SoftFileLock(path.with_name(f"{path.name}-owner"), thread_local=False)
        lock.acquire(timeout=patience)
    return lock


@dataclass(frozen=True)
class _Hold:
    """A folder that is held.

    Attributes
    ----------
    folder : that is held
    lock : that is held on its lock file
    identity : device and number of the lock file: another one may lie there once the folder was removed and made again
    made : folders that were made for it, the outermost first
    """

    folder: Path
    lock: BaseFileLock
    identity: tuple[int, int]
    made: tuple[Path, ...]

    @classmethod
    def take(cls, folder: Path, what: str, patience: float) -> _Hold:
        made = tuple(reversed([one for one in (folder, *folder.parents) if not one.exists()]))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = take_lock(folder / LOCK_FILE, patience)
        except Timeout as error:
            raise MMCCDError(
                f"{folder} is in use: {_describe_holder(folder)} there: wait for it to end, or give another folder."
            ) from error
        except OSError as error:
            _remove_empty(made)
            raise _unwritable(folder, error) from error
        hold = cls(folder, lock, _identity(Path(lock.lock_file)), made)
        try:
            (folder / HOLDER_FILE).write_text(json.dumps(_holder(what)) + "\n", encoding="utf-8")
        except OSError as error:
            hold.end()
            raise _unwritable(folder, error) from error
        return hold

    def end(self) -> None:
        """Release the folder and remove what marked it."""
        # Removed while it is held: whoever has opened it meanwhile finds that it is no file of the folder any more.
        with suppress(OSError):
            if _identity(Path(self.lock.lock_file)) == self.identity:
                (self.folder / HOLDER_FILE).unlink(missing_ok=True)
                Path(self.lock.lock_file).unlink()
        with suppress(OSError):
            self.lock.release()
        _remove_empty(self.made)


def _identity(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_dev, state.st_ino


def _remove_empty(folders: tuple[Path, ...]) -> None:
    """Remove folders, the last one first, as far as they are empty."""
    with suppress(OSError):
        for folder in reversed(folders):
            folder.rmdir()


def _holder(what: str) -> dict[str, str | int]:
    """Return who holds a folder. No arguments of the command: they may name a patient."""
    return {
        "command": Path(sys.argv[0]).name or "python",
        "process": os.getpid(),
        "host": platform.node(),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "writes": what,
    }


def _describe_holder(folder: Path) -> str:
    """Say who writes what, as far as the folder shows."""
    try:
        with (folder / HOLDER_FILE).open(encoding="utf-8") as file:
            record = json.loads(file.read(_LARGEST_RECORD))
        return (
            f"{record['command']} (process {record['process']} on {record['host']}, since {record['since']}) "
            f"writes {record['writes']}"
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another run writes"


def _unwritable(folder: Path, error: OSError) -> MMCCDError:
    return MMCCDError(
        f"{folder} can't be written to ({error.strerror or error}): check the permissions and the disk, or give another "
        "folder."
    )
