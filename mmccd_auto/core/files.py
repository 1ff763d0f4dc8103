"""Files that are either complete or absent: atomic writing, and JSON with errors that name the file."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.strict_json import parse_json, read_json_bytes

_NUMBERS = re.compile(r'\[\n([^\[\]{}"]+)\n *\]')
TEMPORARY_PREFIX = ".incomplete-"
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_STALE_SECONDS = 24 * 3600.0
_TEMPORARY_NAME = re.compile(re.escape(TEMPORARY_PREFIX) + r"(?P<machine>[0-9a-f]{8})-[0-9a-f]+-")
_swept: set[str] = set()


@contextmanager
def atomic_path(path: str | Path, private: bool = False) -> Iterator[Path]:
    """Give a temporary file beside ``path`` that takes its name once the block has written to it without an error.

    The temporary file is there already, empty and locked, which is how other processes know that its writer lives. It keeps
    the whole suffix (``.nii.gz``), because image libraries choose the format by it, and begins with
    :data:`TEMPORARY_PREFIX`. If the block raises, it is removed and ``path`` is left as it was. When a process writes into a
    folder for the first time, it removes what killed ones left there. Several processes may write one file, the last one
    wins.

    Parameters
    ----------
    path : of the file
    private : only the owner may read the file, from its first byte on

    Raises
    ------
    MMCCDError
        If nothing was written, the disk is full, or the folder can't be made or written to.
    """
    path = Path(path)
    with _temporary_for(path, 0o600 if private else 0o666) as temporary:
        yield temporary
        if temporary.stat().st_size == 0:
            raise OSError(errno.EIO, "nothing was written")
        os.replace(temporary, path)


def save_json(content: Any, path: str | Path) -> None:
    """Write ``content`` as indented JSON, lists of numbers on one line, atomically."""
    with atomic_path(path) as temporary:
        _write_json(content, temporary)


def save_json_once(content: Any, path: str | Path) -> bool:
    """Work as :func:`save_json`, unless ``path`` is there already: of several processes that write it the first one wins.

    Returns
    -------
    whether it was written
    """
    path = Path(path)
    with _temporary_for(path) as temporary:
        _write_json(content, temporary)
        try:
            # Unlike a renaming, this fails where the file exists.
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            # A file system without links.
            if path.exists():
                return False
            os.replace(temporary, path)
    return True


def link_or_copy(source: str | Path, path: str | Path) -> None:
    """Give a file a second name, atomically: a hard link, which takes no room, or a copy where the file system has none.

    Raises
    ------
    MMCCDError
        If the source can't be read, the disk is full, or the folder can't be made or written to.
    """
    source, path = Path(source), Path(path)
    with _temporary_for(path) as temporary:
        if path.exists() and os.path.samefile(source, path):
            return
        linked = temporary.with_name(temporary.name + ".link")
        try:
            os.link(source, linked)
        except OSError:
            shutil.copyfile(source, temporary)
            os.replace(temporary, path)
            return
        try:
            os.replace(linked, path)
        finally:
            linked.unlink(missing_ok=True)


def load_json(path: str | Path) -> Any:
    """Read a JSON file whatever it holds; the package itself reads by schema, see :mod:`mmccd_auto.core.records`.

    Raises
    ------
    MMCCDError
        If the file is missing, can't be opened or isn't JSON as :func:`mmccd_auto.core.strict_json.parse_json` wants it.
    """
    return parse_json(read_json_bytes(path), str(path))


@contextmanager
def _temporary_for(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """Give an empty, locked file beside ``path`` that is removed at the end, unless it was renamed.

    Raises
    ------
    MMCCDError
        In place of any OSError, also of the block.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{_machine()}-{secrets.token_hex(4)}-{path.name}")
    descriptor = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale_once(path.parent)
        descriptor = _create_locked(temporary, mode)
        yield temporary
    except OSError as error:
        raise MMCCDError(_why_not_written(path, temporary, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()
        if descriptor is not None:
            os.close(descriptor)


def _create_locked(path: Path, mode: int) -> int | None:
    """Make a file and lock it as long as the descriptor that is returned is open; None on Windows.

    A lock of Windows would keep the libraries from writing.
    """
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
        if os.name == "nt":
            os.close(descriptor)
            return None
        locked = False
        try:
            # Else another process takes it for a dead one's and removes it.
            locked = _lock(descriptor) and os.fstat(descriptor).st_nlink > 0
        finally:
            if not locked:
                os.close(descriptor)
        if locked:
            return descriptor


def _lock(descriptor: int) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        # Some file systems know no locks: there only old files are removed.
        return True


def _write_json(content: Any, path: Path) -> None:
    text = json.dumps(content, indent=2, allow_nan=False)
    # A histogram, or a size, is read along a line. No text of the content matches: line ends are escaped in texts.
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)
    path.write_text(text + "\n", encoding="utf-8")


def _machine() -> str:
    """Return a short code of this machine: on some network disks a lock holds on its own machine only."""
    return f"{zlib.crc32(platform.node().encode('utf-8')):08x}"


def _remove_stale_once(folder: Path) -> None:
    """Remove what killed processes left in a folder, the first time that this process writes there."""
    key = os.path.abspath(folder)
    if key in _swept:
        return
    _swept.add(key)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _TEMPORARY_NAME.match(entry.name)
            if match is not None and entry.is_file(follow_symlinks=False):
                with suppress(OSError):
                    _remove_if_stale(Path(entry.path), match["machine"] == _machine())


def _remove_if_stale(temporary: Path, local: bool) -> None:
    """Remove a temporary file whose writer is dead: nobody holds its lock, and it is from this machine or old."""
    old = time.time() - temporary.stat().st_mtime > _STALE_SECONDS
    if not old and (not local or os.name == "nt"):
        return
    if os.name == "nt":
        # Windows refuses to remove a file that a living process holds open.
        temporary.unlink()
        return
    descriptor = os.open(temporary, os.O_RDWR)
    try:
        if lock_descriptor(descriptor, blocking=False):
            temporary.unlink()
    except OSError:
        if old:
            temporary.unlink()
    finally:
        os.close(descriptor)


def _why_not_written(path: Path, temporary: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in _FULL_DISK:
        return f"{path} could not be written ({reason}): free some disk space or choose a folder on another disk."
    if error.errno == errno.ENAMETOOLONG:
        return f"{path} could not be written, its name is too long: give it a shorter one, by that of the scan or case."
    own_names = {str(name) for name in (path, temporary, path.parent)}
    about = f" for {error.filename}" if error.filename and str(error.filename) not in own_names else ""
    return f"{path} could not be written ({reason}{about}): check the permissions or choose another folder."
