"""The files of one series as dcm2niix can read them: links, and copies only where a file has to be changed."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomFileLike
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    UID,
    AllTransferSyntaxes,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.files.open_file import read_header_of, read_transfer_syntax, unpack
from mmccd_auto.dicom.files.pixel_checks import largest_content
from mmccd_auto.dicom.quiet import quiet_pydicom
from mmccd_auto.dicom.records import Series, sentence

logger = logging.getLogger(__name__)

# JPEG baseline, lossless (twice), JPEG-LS (twice) and JPEG 2000 (twice); not every build of dcm2niix reads the last four.
_JPEG = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 57, 70, 80, 81, 90, 91))
UNCOMPRESSED = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian})
_READ_BY_DCM2NIIX = UNCOMPRESSED | {RLELossless, *_JPEG}
_SIZE = ("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "SamplesPerPixel", "SOPClassUID", "SOPInstanceUID")


def put_files(series: Series, folder: Path) -> None:
    """Give dcm2niix the files of this series alone, under names that say nothing and need no quoting.

    Parameters
    ----------
    series : without a problem
    folder : empty

    Raises
    ------
    MMCCDError
        If a file is compressed in a way that can't be read here.
    OSError
        If a file can't be read or written.
    """
    for number, path in enumerate(series.files, 1):
        try:
            with quiet_pydicom():
                _put(path, folder / f"{number:06d}.dcm", number if series.renumber else None, series.facts.transfer_syntax)
        except OSError:
            raise
        except Exception as error:
            # Every decoder has its own exceptions, and pydicom's may quote the header.
            logger.debug("Decoding ended with %s.", type(error).__name__)
            if series.facts.transfer_syntax in UNCOMPRESSED:
                raise MMCCDError(
                    f"{sentence(series.label)} has a file (number {number} along the stack) that can't be read, it may be "
                    "damaged: export it again."
                ) from None
            raise MMCCDError(
                f"{sentence(series.label)} is compressed in a way that can't be read here ({syntax_name(series)}): "
                "export it without compression."
            ) from None


def syntax_name(series: Series) -> str:
    """Return the transfer syntax in words; what isn't one is not repeated."""
    syntax = UID(series.facts.transfer_syntax)
    return syntax.name if syntax in AllTransferSyntaxes else "an unknown transfer syntax"


def _put(path: Path, target: Path, number: int | None, usual_syntax: str) -> None:
    """Link a file, or write what dcm2niix can read; the files of one series may be compressed in several ways."""
    with path.open("rb") as file:
        syntax = read_transfer_syntax(file) or usual_syntax
    packed = syntax == DeflatedExplicitVRLittleEndian
    readable = packed or syntax in _READ_BY_DCM2NIIX
    if packed:
        _unpack(path, target)
    if number is not None or not readable:
        _rewrite(target if packed else path, target, number, decompress=not readable)
    elif not packed:
        _link(path, target)


def _link(path: Path, target: Path) -> None:
    try:
        target.symlink_to(path.resolve())
    except OSError:
        # Windows and some network disks know no links.
        shutil.copyfile(path, target)


def _unpack(path: Path, target: Path) -> None:
    """Write a packed (deflated) file as an uncompressed one, block by block, and never more than its header announces."""
    with path.open("rb") as file, target.open("wb") as unpacked:
        header, _ = read_header_of(file, _SIZE)
        _write_beginning(unpacked, header)
        file.seek(0)
        for block in unpack(file, largest_content(header)):
            unpacked.write(block)


def _write_beginning(file: BinaryIO, header: Dataset) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = header.get("SOPClassUID") or MRImageStorage
    meta.MediaStorageSOPInstanceUID = header.get("SOPInstanceUID") or generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.write(bytes(128) + b"DICM")
    write_file_meta_info(DicomFileLike(file), meta)


def _rewrite(path: Path, target: Path, number: int | None, decompress: bool) -> None:
    """Write a file again, with numbers that dcm2niix can trust, or without the compression that it can't read.

    Parameters
    ----------
    number : of the image in its stack, from 1; None keeps the file's numbers
    decompress : whether to decode the pixels
    """
    dataset = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little_endian = dataset.original_encoding
        explicit = ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else explicit
    if decompress:
        dataset.decompress()
    if number is not None:
        dataset.SOPClassUID = dataset.get("SOPClassUID") or MRImageStorage
        dataset.SOPInstanceUID = f"2.25.1.{number}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "2.25.2", "2.25.3"
        dataset.InstanceNumber = number
        dataset.AcquisitionNumber = 1
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(target, enforce_file_format=number is not None, overwrite=True)
