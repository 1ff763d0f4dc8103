"""What ITK passes over in silence in NIfTI files: missing bytes, which it leaves to chance, and NaN, which it reads as 0."""

from __future__ import annotations

import gzip
import itertools
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_BLOCK_BYTES = 1 << 20
_HEADER_BYTES = 348
_NIFTI_2_HEADER_BYTES = 540
_FLOAT_TYPES = {16: "f4", 64: "f8"}


@dataclass(frozen=True)
class _Header:
    """Where a NIfTI-1 file's voxels are: byte order ("<" or ">"), first byte, bytes in all, NIfTI type code."""

    order: str
    offset: int
    length: int
    type_code: int


def is_nifti(path: str | Path) -> bool:
    """Whether the name ends in ``.nii`` or ``.nii.gz``."""
    return Path(path).name.lower().endswith((".nii", ".nii.gz"))


def nifti_fault(path: str | Path) -> str | None:
    """Say what is wrong with a NIfTI file's bytes ("is truncated ..."), or None.

    The whole file is read once, and decompressed where it is compressed, so the gzip checksum is verified as well. Files
    of another format are not looked at (None).

    Raises
    ------
    OSError
        If the file can't be opened.
    """
    path = Path(path)
    if not is_nifti(path):
        return None
    if path.stat().st_size == 0:
        return "is empty (0 bytes)"
    try:
        with closing(_blocks(path)) as blocks:
            start = next(blocks, b"")
            length = len(start) + sum(len(block) for block in blocks)
    except EOFError:
        return "is truncated (its compressed data end too early)"
    except (gzip.BadGzipFile, zlib.error) as error:
        return f"is damaged ({str(error).rstrip('.')})"
    header = _read_header(start)
    if header is None:
        second = len(start) >= 4 and _NIFTI_2_HEADER_BYTES in (struct.unpack_from(f"{order}i", start)[0] for order in "<>")
        return "is NIfTI-2 (NIfTI-1 is needed)" if second else "is not a NIfTI file, whatever its name says"
    if length < header.offset + header.length:
        return f"is truncated ({length} of {header.offset + header.length} bytes)"
    return None


def count_non_finite(path: str | Path) -> int:
    """Voxels of a sound NIfTI file that are NaN or infinite on disk; 0 for whole-number types and other formats."""
    path = Path(path)
    if not is_nifti(path):
        return 0
    with closing(_blocks(path)) as blocks:
        start = next(blocks, b"")
        header = _read_header(start)
        if header is None or header.type_code not in _FLOAT_TYPES:
            return 0
        kind = np.dtype(header.order + _FLOAT_TYPES[header.type_code])
        count, left, rest = 0, header.length, b""
        for block in itertools.chain([start[header.offset :]], blocks):
            data = (rest + block)[:left]
            usable = len(data) // kind.itemsize * kind.itemsize
            count += int(np.count_nonzero(~np.isfinite(np.frombuffer(data[:usable], dtype=kind))))
            left -= usable
            rest = data[usable:]
    return count


def _blocks(path: Path) -> Iterator[bytes]:
    """The uncompressed file in blocks; the first holds the header."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if compressed else open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _read_header(start: bytes) -> _Header | None:
    if len(start) < _HEADER_BYTES:
        return None
    for order in "<>":
        if struct.unpack_from(f"{order}i", start)[0] != _HEADER_BYTES:
            continue
        dimensions = struct.unpack_from(f"{order}8h", start, 40)
        type_code, bits = struct.unpack_from(f"{order}2h", start, 70)
        offset = struct.unpack_from(f"{order}f", start, 108)[0]
        if not 1 <= dimensions[0] <= 7 or bits <= 0 or not math.isfinite(offset) or offset < 0:
            return None
        voxels = math.prod(max(1, edge) for edge in dimensions[1 : dimensions[0] + 1])
        return _Header(order, int(offset), (voxels * bits + 7) // 8, type_code)
    return None
