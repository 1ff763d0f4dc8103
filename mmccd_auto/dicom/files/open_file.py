"""Opening of DICOM files: with or without preamble, and packed ones without unpacking more than they announce."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

PREAMBLE = 132
# Headers of multi-frame images with a thousand frames take some 4 MB.
LARGEST_PACKED_HEADER = 8 * 2**20
# What may follow the pixels: padding, a signature.
LARGEST_TRAILER = 2**20
PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
# Of sequences; each takes memory and time beyond its eight bytes. A thousand frames have some 20 000.
MOST_ITEMS = 100_000
_ITEM = b"\xfe\xff\x00\xe0"
_BLOCK = 2**20
_FIRST_GROUPS = (0x0002, 0x0008)
_LARGEST_FIRST_ELEMENT = 1024


class NotDicom(Exception):
    """The file is not DICOM."""


class Swells(Exception):
    """The file unpacks to more than it announces, or its header is longer than any."""


def starts_like_dicom(head: bytes) -> bool:
    """Check whether a file may be DICOM, by its first 140 bytes; files without preamble begin with their first element."""
    return head[128:PREAMBLE] == b"DICM" or _is_first_element(head)


def has_preamble(head: bytes) -> bool:
    """Check whether a file begins as the standard wants it."""
    return head[128:PREAMBLE] == b"DICM"


def read_header_of(file: BinaryIO, keywords: Sequence[str]) -> tuple[Dataset, BinaryIO]:
    """Read the elements of a file up to its pixels.

    Parameters
    ----------
    file : open at its beginning, seekable
    keywords : of the elements to keep

    Returns
    -------
    the dataset, with the transfer syntax in its ``file_meta`` also where the file doesn't give it; and a file that stands at
    the element of the pixels, if there is one: ``file`` itself, or what its header unpacks to

    Raises
    ------
    NotDicom
        If it is no DICOM file. pydicom raises nearly every kind of exception on damaged ones.
    Swells
        If it is packed, and its header unpacks to more than any header; or if a sequence has absurdly many items.
    """
    head = file.read(PREAMBLE + 8)
    if not starts_like_dicom(head):
        raise NotDicom
    if has_preamble(head):
        file.seek(PREAMBLE)
        meta = _read_meta(file)
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return _read_packed(file, meta, keywords)
    file.seek(0)
    dataset = read_partial(file, _stops(file), force=True, specific_tags=[Tag(name) for name in keywords])
    if "TransferSyntaxUID" not in dataset.file_meta:
        dataset.file_meta.TransferSyntaxUID = _uncompressed_syntax(dataset)
    return dataset, file


def read_transfer_syntax(file: BinaryIO) -> str:
    """Read the UID of a file's transfer syntax; empty where the file doesn't give it."""
    if not has_preamble(file.read(PREAMBLE)):
        return ""
    return str(_read_meta(file).get("TransferSyntaxUID", ""))


def unpack(file: BinaryIO, limit: int) -> Iterator[bytes]:
    """Give what a packed file holds behind its file header, in blocks.

    Parameters
    ----------
    file : DICOM of the deflated transfer syntax, open
    limit : bytes

    Raises
    ------
    Swells
        If it holds more than ``limit``.
    zlib.error
        If it is damaged.
    """
    file.seek(PREAMBLE)
    _read_meta(file)
    unpacker, left = zlib.decompressobj(-zlib.MAX_WBITS), limit
    packed = b""
    while not unpacker.eof:
        packed = unpacker.unconsumed_tail or file.read(_BLOCK)
        if not packed:
            return
        block = unpacker.decompress(packed, _BLOCK)
        left -= len(block)
        if left < 0:
            raise Swells
        yield block


def _is_first_element(head: bytes) -> bool:
    """Check whether bytes are an element of one of the first groups, short enough to be true."""
    for order in ("little", "big"):
        group, element = (int.from_bytes(head[place : place + 2], order) for place in (0, 2))
        if group not in _FIRST_GROUPS or len(head) < 8 or element > 0x0100:
            continue
        if re.fullmatch(rb"[A-Z]{2}", head[4:6]):
            return int.from_bytes(head[6:8], order) <= _LARGEST_FIRST_ELEMENT
        if order == "little":
            return int.from_bytes(head[4:8], order) <= _LARGEST_FIRST_ELEMENT
    return False


def _read_meta(file: BinaryIO) -> FileMetaDataset:
    """Read the file's own header (group 2), behind which ``file`` stands afterwards."""
    return FileMetaDataset(read_dataset(file, False, True, stop_when=lambda tag, _, __: tag.group != 2))


def _stops(file: BinaryIO) -> Callable[[BaseTag, str | None, int], bool]:
    """Return what pydicom asks at each element: whether it holds the pixels.

    Sequences of absurdly many items are refused.
    """

    def at_pixels(tag: BaseTag, kind: str | None, length: int) -> bool:
        if tag in PIXEL_TAGS:
            return True
        if kind in (None, "SQ", "UN") and length > len(_ITEM) * MOST_ITEMS:
            place = file.tell()
            if file.read(min(length, LARGEST_PACKED_HEADER)).count(_ITEM) > MOST_ITEMS:
                raise Swells
            file.seek(place)
        return False

    return at_pixels


def _uncompressed_syntax(dataset: Dataset) -> UID:
    is_implicit, is_little_endian = dataset.original_encoding
    if not is_little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def _read_packed(file: BinaryIO, meta: FileMetaDataset, keywords: Sequence[str]) -> tuple[Dataset, BinaryIO]:
    """Read the elements up to the pixels of a packed file, of which no more is unpacked than a header can have."""
    content = io.BytesIO()
    for block in unpack(file, limit=2**63):
        content.write(block)
        if content.tell() > LARGEST_PACKED_HEADER:
            break
    end = content.tell()
    content.seek(0)
    tags: list[BaseTag | int] = [Tag(name) for name in keywords]
    dataset = read_dataset(content, False, True, stop_when=_stops(content), specific_tags=tags)
    dataset.file_meta = meta
    dataset.set_original_encoding(False, True, dataset._character_set)
    if content.tell() >= end > LARGEST_PACKED_HEADER:
        raise Swells
    return dataset, content
