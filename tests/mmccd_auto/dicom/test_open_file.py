"""Files without preamble are read, and what a file promises or unpacks to never takes more memory than a scan has."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from dicom_writing import FLAIR, T1, brain, make_enhanced, make_images, positions, write, write_scans
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.convert import convert_series
from mmccd_auto.dicom.files import headers
from mmccd_auto.dicom.files.headers import Header, Ignored, read_header
from mmccd_auto.dicom.series.find_series import read_export

PEAK_MB = 300


def bare(path: Path, keep_meta: bool = False) -> Path:
    """Take the preamble off a file, and the file's own header unless it is kept."""
    content = path.read_bytes()[132:]
    if not keep_meta:
        length = struct.unpack("<I", content[8:12])[0]
        content = content[12 + length :]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("keep_meta", [False, True], ids=["without meta", "with meta"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian], ids=str)
@pytest.mark.parametrize("every", [1, 4], ids=["all", "some"])
def test_files_without_preamble_are_read(tmp_path: Path, syntax: str, keep_meta: bool, every: int) -> None:
    write_scans(tmp_path / "in", [replace(FLAIR, syntax=syntax)], "{image}")
    for path in sorted((tmp_path / "in").iterdir())[::every]:
        bare(path, keep_meta)
    export = read_export(tmp_path / "in", tmp_path / "work")
    assert export.ignored == {}
    (series,) = export.studies[0].series
    assert (series.problem, len(series.files)) == (None, 14)
    volume = convert_series(series, tmp_path / "work").volume
    assert np.mean(np.abs(volume.array - brain(positions(volume.geometry))) > 1.01) < 2e-3
    assert list((tmp_path / "work").iterdir()) == []


def test_an_enhanced_file_without_preamble_is_read(tmp_path: Path) -> None:
    bare(write(make_enhanced(FLAIR), tmp_path / "in" / "a"))
    (series,) = read_export(tmp_path / "in", tmp_path / "work").studies[0].series
    assert convert_series(series, tmp_path / "work").volume.geometry.size == (40, 48, 14)


@pytest.mark.parametrize(
    "content",
    [
        b"hello world, this is no image" * 20,
        b"\x08\x00" + bytes(500),
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"text" * 100,
        b"\x02\x00\x00\x00UL\x04\x00\x10\x00\x00\x00" + bytes(range(256)) * 4,
        np.random.default_rng(0).bytes(3000),
        b"\x1f\x8b\x08\x00" + bytes(300),
        b"DICM" + bytes(200),
    ],
    ids=["text", "a group and zeros", "one element", "a length", "random", "gzip", "the mark alone"],
)
def test_other_files_are_no_dicom(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert read_header(tmp_path / "x") == Ignored(headers.NOT_DICOM, is_dicom=False)


def packed(dataset: Dataset, extra: bytes = b"", zeros_mb: int = 0, behind: int = 0) -> bytes:
    """A deflated file; ``extra`` and then zeros lie between its header and its pixels, and zeros behind them (MB)."""
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pixels = dataset.pop("PixelData")
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    plain = buffer.getvalue()
    body = len(plain) - len(plain[132:]) + 12 + struct.unpack("<I", plain[140:144])[0]
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    parts = [packer.compress(plain[body:] + extra)]
    parts += [packer.compress(bytes(2**20)) for _ in range(zeros_mb)]
    parts.append(packer.compress(b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", len(pixels.value)) + pixels.value))
    parts += [packer.compress(bytes(2**20)) for _ in range(behind)]
    meta = plain[:body].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    length = struct.unpack("<I", meta[140:144])[0] + 2
    at = meta.index(b"1.2.840.10008.1.2.1.99") - 2
    meta = meta[:140] + struct.pack("<I", length) + meta[144:at] + struct.pack("<H", 22) + meta[at + 2 :]
    return meta + b"".join(parts) + packer.flush()


PRIVATE_BLOCK = b"\x01\x7f\x10\x00OB\0\0"
SEQUENCE = b"\x01\x7f\x10\x00SQ\0\0\xff\xff\xff\xff"
EMPTY_ITEM = b"\xfe\xff\x00\xe0\0\0\0\0"


def hostile(kind: str, path: Path) -> None:
    """Write a file of some MB that would take gigabytes."""
    image = make_images(FLAIR)[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a block before the pixels":
        path.write_bytes(packed(image, PRIVATE_BLOCK + struct.pack("<I", 700 * 2**20), zeros_mb=700))
    elif kind == "many empty items":
        path.write_bytes(packed(image, SEQUENCE + EMPTY_ITEM * (12 * 2**17)))
    elif kind == "many empty items, unpacked":
        content = write(image, path).read_bytes()
        at = content.index(b"\xe0\x7f\x10\x00OW")
        path.write_bytes(content[:at] + SEQUENCE + EMPTY_ITEM * (7 * 2**17) + content[at:])
    elif kind == "zeros behind the pixels":
        path.write_bytes(packed(image, behind=700))
    elif kind == "pixels longer than announced":
        image["PixelData"].value = bytes(200 * 2**20)
        path.write_bytes(packed(image))
    elif kind == "pixels as announced, absurdly many":
        image.Rows = image.Columns = 60000
        path.write_bytes(packed(image))
    elif kind == "an uncompressed promise":
        image.NumberOfFrames, image.Rows, image.Columns = 100000, 60000, 60000
        write(image, path)
    else:
        raise AssertionError(kind)


KINDS = {
    "a block before the pixels": "unpacks to more than it announces",
    "many empty items": "unpacks to more than it announces",
    "many empty items, unpacked": "unpacks to more than it announces",
    "zeros behind the pixels": "unpack to more than they announce",
    "pixels longer than announced": "unpack to more than they announce",
    "pixels as announced, absurdly many": "announce more pixels than any scan has",
    "an uncompressed promise": "announce more pixels than any scan has",
}
PEAK_SCRIPT = """
import pathlib, re, sys
from mmccd_auto.dicom.series.find_series import read_export
export = read_export(sys.argv[1], sys.argv[2])
print(*export.problems, *(series.problem for study in export.studies for series in study.series))
# Not ru_maxrss, which a child inherits from the process that started it.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", KINDS)
def test_memory_stays_bounded_and_a_sentence_names_the_file(tmp_path: Path, kind: str) -> None:
    hostile(kind, tmp_path / "in" / "image")
    assert (tmp_path / "in" / "image").stat().st_size < 8 * 2**20
    command = [sys.executable, "-c", PEAK_SCRIPT, str(tmp_path / "in"), str(tmp_path / "work")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout.strip().split("\n")
    assert KINDS[kind] in printed[0]
    assert "401" in printed[0] or "File 1 of 1 (sorted by path)" in printed[0]
    assert int(printed[-1]) < PEAK_MB


def test_a_packed_file_that_swells_after_its_header_was_read_is_not_converted(tmp_path: Path) -> None:
    write_scans(tmp_path / "in", [replace(FLAIR, syntax=DeflatedExplicitVRLittleEndian)], "{image}")
    (series,) = read_export(tmp_path / "in", tmp_path / "work").studies[0].series
    hostile("zeros behind the pixels", series.files[3])
    with pytest.raises(MMCCDError, match="Series 401"):
        convert_series(series, tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []


def jpeg(rows: int, columns: int) -> bytes:
    """The beginning of a lossless JPEG image, behind a comment and a table."""
    comment = b"\xff\xfe" + struct.pack(">H", 12) + b"0123456789"
    table = b"\xff\xc4" + struct.pack(">H", 4) + b"\0\0"
    return b"\xff\xd8" + comment + table + b"\xff\xc3" + struct.pack(">HBHHB", 11, 16, rows, columns, 1) + bytes(30)


def jpeg_ls(rows: int, columns: int) -> bytes:
    return b"\xff\xd8\xff\xf7" + struct.pack(">HBHHB", 11, 16, rows, columns, 1) + bytes(30)


def jpeg_2000(rows: int, columns: int) -> bytes:
    return b"\xff\x4f\xff\x51" + struct.pack(">HH4I", 41, 0, columns, rows, 0, 0) + bytes(40)


@pytest.mark.parametrize(
    ("syntax", "content", "fault"),
    [
        (JPEGLosslessSV1, jpeg(48, 40), None),
        (JPEGLosslessSV1, jpeg(65000, 65000), "another size"),
        (JPEGLSLossless, jpeg_ls(48, 40), None),
        (JPEGLSLossless, jpeg_ls(60000, 30000), "another size"),
        (JPEG2000Lossless, jpeg_2000(48, 40), None),
        (JPEG2000Lossless, jpeg_2000(2**31, 2**31), "another size"),
        (RLELossless, bytes(64) + bytes(20), None),
        (RLELossless, bytes(10), "truncated"),
        (ExplicitVRLittleEndian, bytes(100), "don't say how their pixels are compressed"),
    ],
)
def test_compressed_images_that_announce_another_size(
    tmp_path: Path, syntax: str, content: bytes, fault: str | None
) -> None:
    image = make_images(T1)[0]
    image.PixelData = encapsulate([content])
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = RLELossless
    write(image, tmp_path / "x")
    written = (tmp_path / "x").read_bytes()
    plain = written.replace(b"1.2.840.10008.1.2.5\0", (syntax + "\0")[: len(syntax) + len(syntax) % 2].encode())
    grown = len(plain) - len(written)
    at = plain.index(syntax.encode()) - 2
    length = struct.unpack("<I", plain[140:144])[0] + grown
    plain = plain[:140] + struct.pack("<I", length) + plain[144:at] + struct.pack("<H", 20 + grown) + plain[at + 2 :]
    (tmp_path / "x").write_bytes(plain)
    found = read_header(tmp_path / "x")
    assert isinstance(found, Header)
    assert found.values["transfer_syntax"] == syntax
    assert (found.fault is None) if fault is None else (fault in found.fault)


def test_the_second_of_several_compressed_frames_is_looked_at_too(tmp_path: Path) -> None:
    image = make_enhanced(T1)
    image.PixelData = encapsulate([jpeg(48, 40), jpeg(60000, 60000), *[jpeg(48, 40)] * 12])
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    write(image, tmp_path / "x")
    found = read_header(tmp_path / "x")
    assert isinstance(found, Header)
    assert "another size" in found.fault


def test_packed_headers_of_sound_files_are_what_pydicom_reads(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(packed(make_images(FLAIR)[0]))
    assert dcmread(tmp_path / "x").Rows == 48
    found = read_header(tmp_path / "x")
    assert isinstance(found, Header)
    assert (found.fault, found.values["rows"], found.series_number) == (None, 48, 401)
