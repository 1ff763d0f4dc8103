"""What is wrong with the pixels of a file, judged by what is announced of them: nothing is decoded."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from mmccd_auto.dicom.files.elements import number
from mmccd_auto.dicom.files.open_file import LARGEST_TRAILER, PIXEL_TAGS, Swells, unpack

NO_PIXELS = "hold no pixels"
TRUNCATED = "are truncated"
SWELLING = "unpack to more than they announce, which may be an attack"
TOO_LARGE = "announce more pixels than any scan has"
OTHER_SIZE = "hold compressed images of another size than they announce"
UNKNOWN_COMPRESSION = "don't say how their pixels are compressed"
LARGEST_VOXELS = 2**29
# Two bytes of RLE stand for at most 128.
LARGEST_RLE_RATIO = 64
_FRAGMENT, _END_OF_FRAGMENTS = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_UNDEFINED = 0xFFFFFFFF
# Start of frame in JPEG and JPEG-LS, but for the tables and the arithmetic conditioning that share the range.
_START_OF_FRAME = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}
_MARKERS_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
_MOST_MARKERS = 200


def pixel_fault(dataset: Dataset, syntax: str, body: BinaryIO, file: BinaryIO, size: int) -> str | None:
    """Say what is wrong with a file's pixels, as the end of "files that ...".

    Parameters
    ----------
    dataset : header
    syntax : UID of the transfer syntax
    body : stands at the element of the pixels, if there is one; see :func:`~mmccd_auto.dicom.files.open_file.read_header_of`
    file, size : the file itself, open, and its size in bytes

    Returns
    -------
    None if nothing is wrong
    """
    if _voxels(dataset) > LARGEST_VOXELS:
        return TOO_LARGE
    head = body.read(12)
    is_implicit, is_little_endian = dataset.original_encoding
    order = "<" if is_little_endian else ">"
    if len(head) < 8 or _tag(head, order) not in PIXEL_TAGS:
        return NO_PIXELS
    if is_implicit:
        length = struct.unpack(f"{order}I", head[4:8])[0]
        body.seek(8 - len(head), os.SEEK_CUR)
    elif len(head) == 12:
        length = struct.unpack(f"{order}I", head[8:12])[0]
    else:
        return TRUNCATED
    if syntax == DeflatedExplicitVRLittleEndian:
        return _packed_fault(dataset, length, body.tell(), file)
    if length == _UNDEFINED:
        return _compressed_fault(dataset, syntax, body, size)
    return TRUNCATED if length < expected_bytes(dataset) or body.tell() + length > size else None


def expected_bytes(dataset: Dataset) -> float:
    """Count how many bytes the pixels of all frames take without compression."""
    bits = number(dataset, "BitsAllocated") or 8
    return _voxels(dataset) * max(number(dataset, "SamplesPerPixel") or 1, 1) * bits / 8


def largest_content(dataset: Dataset) -> int:
    """Count how many bytes a packed file may unpack to: its header, its pixels, and a little behind them."""
    return int(expected_bytes(dataset)) + 9 * 2**20 + LARGEST_TRAILER


def _voxels(dataset: Dataset) -> float:
    frames = max(number(dataset, "NumberOfFrames") or 1, 1)
    return frames * (number(dataset, "Rows") or 0) * (number(dataset, "Columns") or 0)


def _tag(head: bytes, order: str) -> int:
    group, element = struct.unpack(f"{order}HH", head[:4])
    return group << 16 | element


def _packed_fault(dataset: Dataset, length: int, place: int, file: BinaryIO) -> str | None:
    """Unpack a file block by block, which are dropped, and count."""
    expected = expected_bytes(dataset)
    if length == _UNDEFINED or length > expected + LARGEST_TRAILER:
        return SWELLING
    total = 0
    try:
        for block in unpack(file, place + length + LARGEST_TRAILER):
            total += len(block)
    except Swells:
        return SWELLING
    return TRUNCATED if length < expected or total < place + length else None


def _compressed_fault(dataset: Dataset, syntax: str, file: BinaryIO, size: int) -> str | None:
    """Walk through the fragments of compressed pixels up to the mark of their end."""
    if not syntax or syntax.startswith("1.2.840.10008.1.2.1") or syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2"):
        return UNKNOWN_COMPRESSION
    stored = 0
    while True:
        head = file.read(8)
        if len(head) < 8:
            return TRUNCATED
        group, element, length = struct.unpack("<HHI", head)
        if (group, element) == _END_OF_FRAGMENTS:
            break
        start = file.tell()
        if (group, element) != _FRAGMENT or start + length > size:
            return TRUNCATED
        found = _size_of_frame(file, start + length)
        if found is not None and found[0] * found[1] > (number(dataset, "Rows") or 0) * (number(dataset, "Columns") or 0):
            return OTHER_SIZE
        stored += length
        file.seek(start + length)
    if syntax == RLELossless and expected_bytes(dataset) > LARGEST_RLE_RATIO * stored:
        return TRUNCATED
    return None


def _size_of_frame(file: BinaryIO, end: int) -> tuple[int, int] | None:
    """Compute the rows and columns of the JPEG, JPEG-LS or JPEG 2000 image that begins here; None if none does."""
    start = file.read(4)
    if start == b"\xff\x4f\xff\x51":
        fields = file.read(20)
        if len(fields) < 20:
            return None
        width, height, left, top = struct.unpack(">4I", fields[4:20])
        return max(height - top, 0), max(width - left, 0)
    if start[:2] != b"\xff\xd8":
        return None
    file.seek(-2, os.SEEK_CUR)
    for _ in range(_MOST_MARKERS):
        marker = file.read(2)
        if len(marker) < 2 or marker[0] != 0xFF or file.tell() >= end:
            return None
        if marker[1] == 0xFF:
            file.seek(-1, os.SEEK_CUR)
            continue
        if marker[1] in _MARKERS_WITHOUT_LENGTH:
            continue
        fields = file.read(7)
        if len(fields) < 7:
            return None
        if marker[1] in _START_OF_FRAME:
            return struct.unpack(">2H", fields[3:7])
        file.seek(struct.unpack(">H", fields[:2])[0] - 7, os.SEEK_CUR)
    return None
