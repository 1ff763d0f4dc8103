"""Whether a NIfTI file holds every byte that its header promises: ITK reads and writes truncated ones in silence."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 540


def nifti_fault(path: str | Path) -> str | None:
    """Say what is wrong with a NIfTI file's bytes ("is truncated ..."), or None.

    The whole file is read once, and decompressed where it is compressed, so the gzip checksum is verified as well. Files
    whose name doesn't end in ``.nii`` or ``.nii.gz`` are not looked at (None).

    Raises
    ------
    OSError
        If the file can't be opened.
    """
    path = Path(path)
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return None
    if path.stat().st_size == 0:
        return "is empty (0 bytes)"
    try:
        header, length = _header_and_length(path)
    except EOFError:
        return "is truncated (its compressed data end too early)"
    except (gzip.BadGzipFile, zlib.error) as error:
        return f"is damaged ({str(error).rstrip('.')})"
    expected = _promised_length(header)
    if expected is None:
        return "is not a NIfTI file, whatever its name says"
    if length < expected:
        return f"is truncated ({length} of {expected} bytes)"
    return None


def _header_and_length(path: Path) -> tuple[bytes, int]:
    """The first bytes of the uncompressed file, and its length."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if not compressed:
        with open(path, "rb") as file:
            return file.read(_HEADER_BYTES), path.stat().st_size
    with gzip.open(path, "rb") as file:
        header = file.read(_HEADER_BYTES)
        length = len(header)
        while block := file.read(_BLOCK_BYTES):
            length += len(block)
    return header, length


def _promised_length(header: bytes) -> int | None:
    """Bytes up to the last voxel by a NIfTI-1 (348 byte) or NIfTI-2 (540 byte) header; None where it is neither."""
    if len(header) < 348:
        return None
    for order in "<>":
        size = struct.unpack_from(f"{order}i", header)[0]
        if size == 348:
            dimensions = struct.unpack_from(f"{order}8h", header, 40)
            bits = struct.unpack_from(f"{order}h", header, 72)[0]
            offset = struct.unpack_from(f"{order}f", header, 108)[0]
        elif size == 540 and len(header) >= 540:
            dimensions = struct.unpack_from(f"{order}8q", header, 16)
            bits = struct.unpack_from(f"{order}h", header, 14)[0]
            offset = struct.unpack_from(f"{order}q", header, 168)[0]
        else:
            continue
        if not 1 <= dimensions[0] <= 7 or bits <= 0 or not np.isfinite(offset):
            return None
        voxels = int(np.prod([max(1, edge) for edge in dimensions[1 : dimensions[0] + 1]], dtype=object))
        return int(offset) + (voxels * bits + 7) // 8
    return None
