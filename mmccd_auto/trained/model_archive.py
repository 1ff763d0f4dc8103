"""Model files: zip archives of one known content, read as what a stranger may have made."""

from __future__ import annotations

import hashlib
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mmccd_auto.core.disk.hashing import CHUNK_BYTES
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.core.strict_json import shown
from mmccd_auto.trained.manifest import (
    LARGEST_MANIFEST,
    MANIFEST_FILE,
    MOST_FILES,
    ListedFile,
    Manifest,
    manifest_from_bytes,
    path_problem,
)
from mmccd_auto.trained.portable.portable_fold import WEIGHTS_FILE
from mmccd_auto.trained.portable.safetensors_weights import REMEDY

ENCRYPTED = 0x1
A_DAY = (1980, 1, 1, 0, 0, 0)
"""The same in every archive, so that equal models give equal files."""
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, EOFError, OSError, struct.error),
    *(NotImplementedError, RuntimeError, ValueError, OverflowError, MemoryError),
)


def write_archive(folder: Path, manifest: Manifest, path: str | Path) -> None:
    """Pack an unpacked model, atomically; equal folders give equal files.

    Parameters
    ----------
    folder : with manifest.json and the files that it lists
    manifest : of the folder
    path : of the archive

    Raises
    ------
    MMCCDError
        If the archive can't be written.
    """
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in (MANIFEST_FILE, *sorted(manifest.files)):
            entry = zipfile.ZipInfo(name, A_DAY)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            # Weights are as good as random: packing them would take time and gain nothing.
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(WEIGHTS_FILE) else zipfile.ZIP_DEFLATED
            with (folder / name).open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, CHUNK_BYTES)


def unpack_archive(path: str | Path, folder: Path) -> Manifest:
    """Unpack a model file into an empty folder, checking names, sizes and hashes before and while it is read.

    Parameters
    ----------
    path : of the archive, which may be anything
    folder : nothing is written elsewhere

    Returns
    -------
    the manifest, which names exactly the files that are there now, each with its size and hash

    Raises
    ------
    MMCCDError
        If the file is missing, isn't a zip archive, or holds anything but a model's files as its manifest lists them.
    """
    path = Path(path)
    if not path.is_file():
        raise MMCCDError(f"{path} does not exist or is no file: give the zip file that mmccd_export_model made.")
    with _opened(path) as archive:
        entries = _entries(archive, path)
        if MANIFEST_FILE not in entries:
            raise MMCCDError(f"{path} holds no {MANIFEST_FILE}, so that it is no model file: {REMEDY}.")
        manifest = manifest_from_bytes(_manifest_bytes(archive, entries[MANIFEST_FILE], path), f"{path}: {MANIFEST_FILE}")
        _check_listed(entries, manifest, path)
        for name, listed in {MANIFEST_FILE: None, **manifest.files}.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with _reading(path, name), archive.open(entries[name]) as source:
                _copy(source, target, listed, f"{path}: {name}")
    return manifest


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    with _reading(path, "its list of files"):
        archive = zipfile.ZipFile(path)
    with archive:
        yield archive


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever a damaged archive raises into a sentence."""
    try:
        yield
    except _DAMAGE as error:
        told = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise MMCCDError(f"{path}: {what} can't be read ({told}): the model file is damaged: {REMEDY}.") from error


def _entries(archive: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name, each with a name and of a kind that a model file may hold."""
    found: dict[str, zipfile.ZipInfo] = {}
    if len(archive.infolist()) > MOST_FILES + 1:
        raise MMCCDError(f"{path} holds {len(archive.infolist())} files, and a model has {MOST_FILES} at most: {REMEDY}.")
    for entry in archive.infolist():
        name = entry.orig_filename
        problem = path_problem(name) or _kind_problem(entry)
        if not problem and name.lower() in found:
            problem = "is there twice"
        if problem:
            raise MMCCDError(f"{path}: the file {shown(name)} {problem}: nothing was installed.")
        found[name.lower()] = entry
    return {entry.filename: entry for entry in found.values()}


def _kind_problem(entry: zipfile.ZipInfo) -> str:
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "is a link or no regular file"
    if entry.flag_bits & ENCRYPTED:
        return "is encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in a way that model files don't use"
    if entry.filename.endswith(WEIGHTS_FILE) and entry.file_size != entry.compress_size:
        return "is packed, and weights never are"
    return ""


def _manifest_bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> bytes:
    with _reading(path, MANIFEST_FILE), archive.open(entry) as file:
        content = file.read(LARGEST_MANIFEST + 1)
    if len(content) > LARGEST_MANIFEST:
        raise MMCCDError(f"{path}: {MANIFEST_FILE} is larger than {LARGEST_MANIFEST >> 20} MiB: {REMEDY}.")
    return content


def _check_listed(entries: Mapping[str, zipfile.ZipInfo], manifest: Manifest, path: Path) -> None:
    """Compare what is in an archive with what its manifest lists."""
    there, listed = set(entries) - {MANIFEST_FILE}, set(manifest.files)
    if there - listed:
        name = min(there - listed)
        raise MMCCDError(f"{path}: the file {shown(name)} is not listed in {MANIFEST_FILE}: nothing was installed.")
    if listed - there:
        raise MMCCDError(f"{path}: the file {min(listed - there)} is missing: {REMEDY}.")
    for name, facts in manifest.files.items():
        if entries[name].file_size != facts.bytes:
            raise MMCCDError(
                f"{path}: {name} would have {entries[name].file_size} bytes, and {MANIFEST_FILE} lists {facts.bytes}: "
                f"{REMEDY}."
            )


def _copy(source: IO[bytes], target: Path, listed: ListedFile | None, what: str) -> None:
    """Write a file of an archive, at most as large as it is listed; the manifest (None) lists itself not."""
    digest, size = hashlib.sha256(), 0
    most = LARGEST_MANIFEST if listed is None else listed.bytes
    with target.open("wb") as file:
        while chunk := source.read(CHUNK_BYTES):
            size += len(chunk)
            if size > most:
                raise MMCCDError(f"{what} holds more bytes than it promises: nothing was installed.")
            digest.update(chunk)
            file.write(chunk)
    if listed is not None and (size, digest.hexdigest()) != (listed.bytes, listed.sha256):
        raise MMCCDError(f"{what} is not as {MANIFEST_FILE} lists it (another size or SHA-256): {REMEDY}.")
