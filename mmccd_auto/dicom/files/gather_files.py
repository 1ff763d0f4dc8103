"""Every file of an export: folders of any shape, and zip archives, which are unpacked with care."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.disk.temporary_space import is_full
from mmccd_auto.core.errors import MMCCDError

HIDDEN = "hidden files"
NOT_A_FILE = "not regular files"
UNREADABLE_FOLDER = "folders that can't be opened"
UNREADABLE_FILE = "files that can't be opened"
LARGEST_UNPACKED = 64 * 2**30
LARGEST_RATIO = 200
SMALLEST_BOMB = 2**30
MOST_ENTRIES = 1_000_000
_BLOCK = 2**20
_ARCHIVE = "archive_"


@dataclass
class Gathered:
    """The files of an export, and what was met on the way.

    Attributes
    ----------
    files : sorted, each real file once
    ignored : number of files left out, by reason
    problems : sentences on archives that were refused
    """

    files: list[Path] = field(default_factory=list, repr=False)
    ignored: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


class _Refused(Exception):
    """Why an archive is not unpacked, as the second half of a sentence."""


def gather_files(source: Path, workspace: Path) -> Gathered:
    """List the files of ``source``; zip archives among them are unpacked into ``workspace`` under neutral names.

    Parameters
    ----------
    source : a folder, searched with all its subfolders, a zip archive, or one file (a DICOMDIR stands for its folder)
    workspace : a folder to unpack into, made where an archive is met; it is not searched itself

    Raises
    ------
    MMCCDError
        If there is nothing at ``source``, or the workspace can't be written to.
    """
    gathered = Gathered()
    if source.is_file() and source.name.upper() == "DICOMDIR":
        source = source.parent
    if source.is_file():
        found = [source]
    elif source.is_dir():
        found = sorted(_walk(source, workspace, gathered.ignored))
    else:
        raise MMCCDError("The DICOM export does not exist: check the path that was given.")
    archives = [path for path in found if _is_archive(path, alone=found == [source])]
    gathered.files = [path for path in found if path not in set(archives)]
    for number, archive in enumerate(archives, 1):
        name = "The zip archive" if len(archives) == 1 else f"Zip archive {number} of {len(archives)} (sorted by name)"
        folder = workspace / f"{_ARCHIVE}{number:04d}"
        try:
            gathered.files += _unpack(archive, folder, gathered.ignored)
        except _Refused as reason:
            gathered.problems.append(f"{name} {reason}.")
            with suppress(MMCCDError):
                remove_folder(folder, workspace)
    return gathered


def unpacked_files(workspace: Path) -> list[Path]:
    """Return what :func:`gather_files` has unpacked into a workspace."""
    return [path for path in workspace.glob(f"{_ARCHIVE}*/*") if path.is_file()]


def remove_files(files: Sequence[Path], keep: Iterable[Path]) -> None:
    """Remove files but for some; one that can't be removed stays until its folder goes."""
    kept = set(keep)
    for path in files:
        if path not in kept:
            with suppress(OSError):
                path.unlink()


def _walk(folder: Path, workspace: Path, ignored: Counter[str]) -> Iterator[Path]:
    """Yield every visible regular file below a folder, each real folder and file once (links may lead in circles)."""
    seen_folders = {os.path.realpath(workspace)}
    seen_files: set[str] = set()

    def unreadable(_: OSError) -> None:
        ignored[UNREADABLE_FOLDER] += 1

    for parent, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        real = os.path.realpath(parent)
        if real in seen_folders:
            folders.clear()
            continue
        seen_folders.add(real)
        # A fixed order makes it certain which of two equal files counts as the copy.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            reason = _why_skipped(path)
            if reason:
                ignored[reason] += 1
            elif (real := os.path.realpath(path)) not in seen_files:
                seen_files.add(real)
                yield path


def _why_skipped(path: Path) -> str | None:
    if path.name.startswith("."):
        return HIDDEN
    try:
        return None if stat.S_ISREG(path.stat().st_mode) else NOT_A_FILE
    except OSError:
        # A broken link, or a link to itself.
        return UNREADABLE_FILE


def _is_archive(path: Path, alone: bool) -> bool:
    """Check whether to unpack a file: by its name, for a damaged archive can't be recognised by its content.

    A file that was given by itself may have any name.
    """
    if path.suffix.lower() == ".zip":
        return True
    return alone and zipfile.is_zipfile(path)


def _unpack(archive: Path, folder: Path, ignored: Counter[str]) -> list[Path]:
    """Unpack an archive whole or not at all; the files get numbers for names, since theirs may name the patient."""
    try:
        with zipfile.ZipFile(archive) as content:
            entries = [entry for entry in content.infolist() if not entry.is_dir()]
            _check(entries, archive.stat().st_size, folder)
            visible = [entry for entry in entries if not _is_hidden(entry.filename)]
            ignored[HIDDEN] += len(entries) - len(visible)
            folder.mkdir(parents=True, exist_ok=True)
            return [_extract(content, entry, folder / f"{number:06d}") for number, entry in enumerate(visible, 1)]
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise _Refused("is truncated or damaged: copy or export it again") from error
    except NotImplementedError as error:
        raise _Refused("is packed by a method that can't be read here: unpack it and give the folder") from error
    except RuntimeError as error:
        raise _Refused("is encrypted: unpack it with its password and give the folder") from error
    except OSError as error:
        if is_full(folder, error):
            raise _Refused(
                "can't be unpacked, since the temporary folder's disk is full: free some space or set TMPDIR"
            ) from error
        raise _Refused(f"can't be unpacked ({error.strerror or 'input/output error'}): check the disk") from error


def _check(entries: list[zipfile.ZipInfo], packed: int, folder: Path) -> None:
    """Refuse what is dangerous before anything is written."""
    total = sum(entry.file_size for entry in entries)
    if any(_leaves_folder(entry) for entry in entries):
        raise _Refused("holds entries that lead out of its own folder, which may be an attack: pack it again")
    if any(entry.flag_bits & 0x1 for entry in entries):
        raise _Refused("is encrypted: unpack it with its password and give the folder")
    if len(entries) > MOST_ENTRIES or total > LARGEST_UNPACKED:
        raise _Refused(f"unpacks to more than {LARGEST_UNPACKED // 2**30} GiB or {MOST_ENTRIES} files: give its folder")
    if any(_swells(entry.file_size, entry.compress_size) for entry in entries) or _swells(total, packed):
        raise _Refused(f"is more than {LARGEST_RATIO} times larger unpacked, which may be an attack: give its folder")
    if sum(entry.compress_size for entry in entries) > packed:
        raise _Refused("holds entries that share their bytes, which may be an attack: pack it again")
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if total > shutil.disk_usage(existing).free:
        raise _Refused(f"needs {total / 2**30:.1f} GiB of the temporary folder to unpack: free some space or set TMPDIR")


def _swells(unpacked: int, packed: int) -> bool:
    return unpacked > SMALLEST_BOMB and unpacked > LARGEST_RATIO * packed


def _leaves_folder(entry: zipfile.ZipInfo) -> bool:
    name = entry.filename.replace("\\", "/")
    is_link = stat.S_ISLNK(entry.external_attr >> 16)
    return is_link or name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/")


def _is_hidden(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _extract(content: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> Path:
    """Write one entry with its own time, so that an archive read twice gives the same files; never more than it declares."""
    left = entry.file_size
    with content.open(entry) as packed, target.open("wb") as file:
        while block := packed.read(_BLOCK):
            left -= len(block)
            if left < 0:
                raise _Refused("holds more than it declares, which may be an attack: pack it again")
            file.write(block)
    written = _time_of(entry)
    os.utime(target, (written, written))
    return target


def _time_of(entry: zipfile.ZipInfo) -> int:
    """Give an entry's time in seconds, read as UTC since archives keep no time zone; 0 where it is no date."""
    try:
        return int(datetime(*entry.date_time, tzinfo=timezone.utc).timestamp())
    except ValueError:
        return 0
