"""Files that are either complete or absent: atomic writing, and JSON with errors that name the file."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmccd_auto.errors import MMCCDError

TEMPORARY_PREFIX = ".incomplete-"
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_STALE_SECONDS = 24 * 3600.0


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its name once the block ends without an error.

    The temporary file keeps the whole suffix (``.nii.gz``), because image libraries choose the format by it, and begins
    with :data:`TEMPORARY_PREFIX`. If the block raises, the temporary file is removed and ``path`` is left as it was. What a
    killed process left of the same file is removed first; several processes may write one file, the last one wins.

    Raises
    ------
    MMCCDError
        If the disk is full or the folder can't be made or written to.
    """
    path = Path(path)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{_machine()}-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(path)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise MMCCDError(_why_not_written(path, temporary, error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def save_json(content: Any, path: str | Path) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def save_json_once(content: Any, path: str | Path) -> bool:
    """As :func:`save_json`, unless ``path`` is there already: of several processes that write it the first one wins.

    Returns
    -------
    whether it was written
    """
    path = Path(path)
    complete = path.with_name(f"{TEMPORARY_PREFIX}{_machine()}-{os.getpid()}-once-{path.name}")
    save_json(content, complete)
    try:
        # Unlike a renaming, this fails where the file exists.
        os.link(complete, path)
    except FileExistsError:
        return False
    except OSError:
        # A file system without links.
        if path.exists():
            return False
        os.replace(complete, path)
    finally:
        complete.unlink(missing_ok=True)
    return True


def load_json(path: str | Path) -> Any:
    """Read a JSON file (UTF-8, with or without the byte order mark that Windows editors add).

    Raises
    ------
    MMCCDError
        If the file is missing, can't be opened or isn't JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise MMCCDError(f"{path} does not exist.") from error
    except OSError as error:
        raise MMCCDError(f"{path} can't be opened ({error.strerror or error}): check that it is a readable file.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MMCCDError(f"{path} is not valid JSON ({error}): mend it or make it anew.") from error


def _machine() -> str:
    """A short code of this machine: process ids mean something on their own machine only."""
    return f"{zlib.crc32(platform.node().encode('utf-8')):08x}"


def _remove_stale(path: Path) -> None:
    """Remove what killed processes left of ``path``; living ones may still be at work on it."""
    pattern = re.compile(re.escape(TEMPORARY_PREFIX) + r"(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-" + re.escape(path.name))
    for name in os.listdir(path.parent):
        match = pattern.fullmatch(name)
        if match is None:
            continue
        # Windows refuses to remove a file that a living process holds open, which is what is wanted there.
        with suppress(OSError):
            local = match["machine"] == _machine()
            old = time.time() - (path.parent / name).stat().st_mtime > _STALE_SECONDS
            if old or (local and not _is_running(int(match["process"]))):
                (path.parent / name).unlink()


def _is_running(process: int) -> bool:
    if os.name == "nt":
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _why_not_written(path: Path, temporary: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in _FULL_DISK:
        return f"{path} could not be written ({reason}): free some disk space or choose a folder on another disk."
    own_names = {str(name) for name in (path, temporary, path.parent)}
    about = f" for {error.filename}" if error.filename and str(error.filename) not in own_names else ""
    return f"{path} could not be written ({reason}{about}): check the permissions or choose another folder."
