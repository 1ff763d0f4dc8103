"""Hashes of files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError

CHUNK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Hash a file's content by SHA-256, as ``sha256sum`` does."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def files_sha256(files: Sequence[Path]) -> str:
    """Hash a file's content, or that of several one after the other: another scan of the same name can have the same size.

    Raises
    ------
    MMCCDError
        If one can't be read; the message names none, since files of a hospital's export may be called by patients.
    """
    try:
        sums = [file_sha256(file) for file in files]
    except OSError as error:
        raise MMCCDError(f"A file can't be opened ({error.strerror or error}): check that it is readable.") from error
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
