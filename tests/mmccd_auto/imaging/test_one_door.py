"""Only mmccd_auto/imaging opens volumes: a reader of its own elsewhere would have rules of its own for where they lie."""

from __future__ import annotations

import re
from pathlib import Path

import mmccd_auto.imaging

PACKAGE = Path(mmccd_auto.imaging.__file__).parents[2]
ROOMS = ("mmccd_auto", "plans", "preprocessing", "inference")
DOOR = {
    "mmccd_auto/imaging/formats/nifti.py",
    "mmccd_auto/imaging/formats/nifti_geometry.py",
    "mmccd_auto/imaging/formats/itk_formats.py",
}
WRITER = {"mmccd_auto/imaging/io.py"}
READERS = re.compile(
    r"ReadImage\(|ReadImageInformation|ImageFileReader|ImageSeriesReader|GetGDCMSeriesFileNames"
    r"|\bnibabel\b|\bnib\.|load_img\(|\bnilearn\.image\b|\bnrrd\.read|\bimageio\b|\bmedpy\b"
)
WRITERS = re.compile(r"WriteImage\(|ImageFileWriter|to_filename\(|\bnib\.save")


def found(pattern: re.Pattern) -> set[str]:
    files = [path for room in ROOMS for path in (PACKAGE / room).rglob("*.py")]
    assert len(files) > 100
    return {path.relative_to(PACKAGE).as_posix() for path in files if pattern.search(path.read_text(encoding="utf-8"))}


def test_volumes_are_read_in_one_place():
    assert found(READERS) == DOOR


def test_volumes_are_written_in_one_place():
    assert found(WRITERS) == WRITER
