"""DICOM exports as hospitals send them, each with one thing that goes wrong."""

from __future__ import annotations

import os
import random
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dicom_writing import (
    AXIAL,
    BASIC_TEXT_SR,
    CLEAN,
    CORONAL,
    FLAIR,
    LOCALISER,
    MPRAGE,
    OBLIQUE,
    SAGITTAL,
    SECONDARY_CAPTURE,
    T1,
    T2,
    Scan,
    make_enhanced,
    make_images,
    make_object,
    set_pixels,
    with_tags,
    write,
    write_scans,
)
from pydicom.fileset import FileSet
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)

USED = {"FLAIR": 401, "T1": 601, "T2": 301}


@dataclass(frozen=True)
class Expected:
    """What must come out.

    Attributes
    ----------
    used : series number by modality, of every study in their order; all of these convert rightly
    ignored : part of a reason why files are left out, and how many of them
    sentence : a part of a sentence that must be told about the export, a series, or why the export can't be used
    """

    used: tuple[Mapping[str, int], ...]
    ignored: Mapping[str, int] = field(default_factory=dict)
    sentence: str = ""


@dataclass(frozen=True)
class Awkward:
    """An export with something awkward; ``build`` writes it into an empty folder and returns what to read."""

    name: str
    build: Callable[[Path], Path]
    expected: Expected


def all_exports() -> list[Awkward]:
    """Every awkward export."""
    return list(_EXPORTS)


def _of(*scans: Scan) -> Callable[[Path], Path]:
    return lambda folder: write_scans(folder, scans)


def _shuffled(folder: Path) -> Path:
    images = [image for scan in CLEAN for image in make_images(scan)]
    random.Random(0).shuffle(images)
    for number, image in enumerate(images):
        write(image, folder / f"IM{number:04d}")
    return folder


def _nested(folder: Path) -> Path:
    write_scans(folder / "a" / "b" / "DICOM", CLEAN, "{series}/x/y/{image}")
    (folder / "a" / "empty").mkdir()
    return folder


def _duplicates(folder: Path) -> Path:
    write_scans(folder, CLEAN)
    for number in (3, 4):
        shutil.copy(folder / f"S0401/IM{number:04d}.dcm", folder / f"copy_{number}")
    return folder


def _truncated(folder: Path) -> Path:
    write_scans(folder, CLEAN)
    path = folder / "S0401" / "IM0005.dcm"
    path.write_bytes(path.read_bytes()[:-1500])
    return folder


def _cut_header(folder: Path) -> Path:
    write_scans(folder, CLEAN)
    path = folder / "S0401" / "IM0005.dcm"
    path.write_bytes(path.read_bytes()[:420])
    return folder


def _no_pixels(folder: Path) -> Path:
    write_scans(folder, (T1, T2))
    for number, image in enumerate(make_images(FLAIR)):
        del image.PixelData
        write(image, folder / f"flair_{number}")
    return folder


def _enhanced_only(folder: Path) -> Path:
    write(make_enhanced(replace(FLAIR, orientation=OBLIQUE)), folder / "IM1")
    write(make_enhanced(T1), folder / "IM2")
    return folder


def _enhanced_two_echoes(folder: Path) -> Path:
    write(make_enhanced(T2, echoes=(20.0, 100.0)), folder / "IM1")
    return write_scans(folder, (FLAIR,))


def _dual_echo(folder: Path) -> Path:
    write_scans(folder, (FLAIR, T1))
    echoes = with_tags(T2, EchoTime=20, EchoNumbers=1), with_tags(T2, EchoTime=100, EchoNumbers=2)
    pairs = zip(*map(make_images, echoes), strict=True)
    for number, image in enumerate((image for pair in pairs for image in pair), 1):
        image.InstanceNumber = number
        write(image, folder / "S0301" / f"{number:04d}")
    return folder


def _time_points(folder: Path) -> Path:
    write_scans(folder, (T1, T2))
    for point in (1, 2):
        for number, image in enumerate(make_images(with_tags(FLAIR, AcquisitionNumber=point))):
            write(image, folder / f"flair_{point}_{number}")
    return folder


def _planes(folder: Path) -> Path:
    planes = [replace(LOCALISER, orientation=plane, uid=LOCALISER.series_uid) for plane in (AXIAL, CORONAL, SAGITTAL)]
    for plane, scan in enumerate(planes):
        for number, image in enumerate(make_images(scan)):
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.{plane}.{number}"
            write(image, folder / f"{plane}_{number}")
    return folder


def _other_objects(folder: Path) -> Path:
    write_scans(folder, CLEAN)
    capture = make_object(replace(FLAIR, number=900), SECONDARY_CAPTURE, "capture")
    capture.Modality = "OT"
    set_pixels(capture, FLAIR.pixels(5))
    write(capture, folder / "capture")
    report = make_object(replace(FLAIR, number=901), BASIC_TEXT_SR, "report")
    report.Modality = "SR"
    write(report, folder / "report")
    return folder


def _text_files(folder: Path) -> Path:
    write_scans(folder, CLEAN)
    (folder / "README.TXT").write_text("Viewer 3.1 for ZZNAME Geheim", encoding="utf-8")
    (folder / "autorun.inf").write_bytes(b"\x00" * 500)
    (folder / ".DS_Store").write_bytes(b"x")
    return folder


def _symlink_loop(folder: Path) -> Path:
    write_scans(folder, CLEAN)
    (folder / "S0401" / "again").symlink_to(folder, target_is_directory=True)
    (folder / "itself").symlink_to(folder / "itself")
    return folder


def _read_only(folder: Path) -> Path:
    write_scans(folder / "cd", CLEAN)
    for path in [folder / "cd", *(folder / "cd").iterdir()]:
        os.chmod(path, 0o555)
    return folder / "cd"


def _zip(folder: Path, extra: Callable[[zipfile.ZipFile], None] | None = None) -> Path:
    write_scans(folder / "raw", CLEAN)
    path = folder / "ZZNAME_Geheim.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "raw").rglob("*.dcm")):
            archive.write(file, f"ZZNAME^Geheim/{file.relative_to(folder / 'raw')}")
        if extra:
            extra(archive)
    shutil.rmtree(folder / "raw")
    return path


def _zip_in_folder(folder: Path) -> Path:
    _zip(folder)
    write_scans(folder / "loose", (replace(FLAIR, number=402, slices=18),))
    return folder


def _zip_leading_out(folder: Path) -> Path:
    return _zip(folder, lambda archive: archive.writestr("../../outside.dcm", b"x"))


def _zip_truncated(folder: Path) -> Path:
    path = _zip(folder)
    path.write_bytes(path.read_bytes()[:-3000])
    return path


def _zip_encrypted(folder: Path) -> Path:
    path = _zip(folder)
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(mark)
        content[place + offset] |= 0x1
    path.write_bytes(content)
    return path


def _dicomdir(folder: Path) -> Path:
    files = FileSet()
    write_scans(folder / "raw", CLEAN)
    for path in sorted((folder / "raw").rglob("*.dcm")):
        files.add(path)
    files.write(folder / "disc")
    shutil.rmtree(folder / "raw")
    return folder / "disc" / "DICOMDIR"


def _patient_folder(folder: Path) -> Path:
    named = [replace(scan, description=f"{scan.description} ZZNAME Geheim") for scan in CLEAN]
    return write_scans(folder / "ZZNAME^Geheim_19510203", named, "ZZID-4711_{series}_{image}.dcm")


def _zero_bytes(folder: Path) -> Path:
    write_scans(folder, CLEAN)
    (folder / "S0401" / "IM0005.dcm").write_bytes(b"")
    return folder


def _sheared(folder: Path) -> Path:
    for number, image in enumerate(make_images(FLAIR)):
        image.ImagePositionPatient[0] += 2.0 * number
        write(image, folder / f"{number}")
    return write_scans(folder, (T1, T2))


def _packages(folder: Path) -> Path:
    for number, image in enumerate(make_images(FLAIR)):
        image.AcquisitionNumber = 1 + number % 2
        image.AcquisitionTime = f"12{number % 2:02d}00"
        image.EchoTime = 100 + 0.01 * (number % 2)
        image.InstanceNumber = 1 + number // 2 + 7 * (number % 2)
        write(image, folder / f"{number}")
    return write_scans(folder, (T1, T2))


def _two_patients(folder: Path) -> Path:
    write_scans(folder, CLEAN)
    return write_scans(folder, _OTHER_STUDY, "{series}_{image}")


def _two_in_one_study(folder: Path) -> Path:
    write_scans(folder, CLEAN)
    return write_scans(folder, _SHARED_UIDS, "{series}_{image}")


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder


def _no_series_uid(folder: Path) -> Path:
    for scan in CLEAN:
        for number, image in enumerate(make_images(scan)):
            del image.SeriesInstanceUID
            write(image, folder / f"{scan.number}_{number}")
    return folder


def _odd_values(folder: Path) -> Path:
    for number, image in enumerate(make_images(FLAIR)):
        write(image, folder / f"{number}")
        path = folder / f"{number}"
        # An echo time that is no number, as some tools write it; the length must stay.
        path.write_bytes(path.read_bytes().replace(b"\x18\x00\x81\x00DS\x04\x00100 ", b"\x18\x00\x81\x00DS\x04\x00ZZNA"))
    return write_scans(folder, (T1, T2))


def _with_spacing(rows: float, columns: float) -> Scan:
    """The images as they are, but another pixel spacing in their headers."""
    size = {"rows": 100, "columns": 100} if rows == 19 else {}
    return with_tags(replace(FLAIR, **size), PixelSpacing=[rows, columns])


def _replaced(folder: Path, old: bytes, new: bytes) -> Path:
    """A FLAIR whose files hold other bytes of the same length; what can't be written by pydicom can be read."""
    for number, image in enumerate(make_images(FLAIR)):
        path = write(image, folder / f"{number}")
        content = path.read_bytes()
        assert len(old) == len(new)
        assert old in content
        path.write_bytes(content.replace(old, new))
    return write_scans(folder, (T1, T2))


def _several_syntaxes(folder: Path) -> Path:
    syntaxes = (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, ImplicitVRLittleEndian)
    for number in range(FLAIR.slices):
        scan = replace(FLAIR, syntax=syntaxes[number % len(syntaxes)])
        write(make_images(scan)[number], folder / f"{number}")
    return write_scans(folder, (T1, T2))


def _spacing_of_text(folder: Path) -> Path:
    return _replaced(folder, b"DS\x08\x004.0\\4.0 ", b"DS\x08\x00nan\\nan ")


def _position_of_text(folder: Path) -> Path:
    return _replaced(folder, b"-78.000000\\", b"nan       \\")


def _far_away(folder: Path) -> Path:
    for number, image in enumerate(make_images(FLAIR)):
        image.ImagePositionPatient[0] = 2e6
        write(image, folder / f"{number}")
    return write_scans(folder, (T1, T2))


def _colour(folder: Path) -> Path:
    for number, image in enumerate(make_images(FLAIR)):
        image.PixelData = image.PixelData + bytes(len(image.PixelData) // 2)
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PlanarConfiguration = 3, "RGB", 0
        image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
        write(image, folder / f"{number}")
    return write_scans(folder, (T1, T2))


_COPY = "copies of images"
_JAPANESE = ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ZZID-4711", "19510203")
_OTHER_PATIENT = ("ZZNAME^Other", "ZZID-9", "19700101")
_OTHER = [replace(scan, patient=_OTHER_PATIENT) for scan in CLEAN]
_OTHER_STUDY = [replace(scan, study="1.2.826.0.1.3680043.8.498.2") for scan in _OTHER]
_SHARED_UIDS = [replace(scan, uid=CLEAN[place].series_uid) for place, scan in enumerate(_OTHER)]
_DERIVED = ["DERIVED", "PRIMARY", "MPR"]
_MIP = ["DERIVED", "SECONDARY", "MIP"]
_NO_FLAIR = {"T1": 601, "T2": 301}

_EXPORTS = (
    Awkward("clean", _of(*CLEAN), Expected((USED,))),
    Awkward("flat, shuffled, no extensions", _shuffled, Expected((USED,))),
    Awkward("nested folders", _nested, Expected((USED,))),
    Awkward(
        "missing slice", _of(T1, T2, replace(FLAIR, leave_out=frozenset({6}))), Expected((_NO_FLAIR,), {}, "lacks 1 slice")
    ),
    Awkward("duplicates", _duplicates, Expected((USED,), {_COPY: 2})),
    Awkward("two patients", _two_patients, Expected((USED, USED))),
    Awkward("two patients, one study", _two_in_one_study, Expected((USED, USED))),
    Awkward("axial and sagittal FLAIR", _of(*CLEAN, replace(FLAIR, number=2, orientation=SAGITTAL)), Expected((USED,))),
    Awkward("derived FLAIR", _of(*CLEAN, replace(with_tags(FLAIR, ImageType=_DERIVED), number=2)), Expected((USED,))),
    Awkward(
        "only a reformatted FLAIR", _of(T1, with_tags(FLAIR, ImageType=_DERIVED)), Expected(({"FLAIR": 401, "T1": 601},))
    ),
    Awkward("projection", _of(T1, T2, with_tags(FLAIR, ImageType=_MIP)), Expected((_NO_FLAIR,))),
    Awkward("localiser only", _planes, Expected(({},), {}, "several directions")),
    Awkward("truncated file", _truncated, Expected((_NO_FLAIR,), {}, "1 of 14 files that are truncated")),
    Awkward("file cut in its header", _cut_header, Expected((_NO_FLAIR,), {}, "lacks 1 slice")),
    Awkward("no pixels", _no_pixels, Expected((_NO_FLAIR,), {}, "14 of 14 files that hold no pixels")),
    Awkward("RLE", _of(*(replace(scan, syntax=RLELossless) for scan in CLEAN)), Expected((USED,))),
    Awkward("JPEG-LS", _of(T1, T2, replace(FLAIR, syntax=JPEGLSLossless)), Expected((USED,))),
    Awkward("deflated", _of(T1, T2, replace(FLAIR, syntax=DeflatedExplicitVRLittleEndian)), Expected((USED,))),
    Awkward("several transfer syntaxes", _several_syntaxes, Expected((USED,))),
    Awkward("big-endian", _of(T1, T2, replace(FLAIR, syntax=ExplicitVRBigEndian)), Expected((USED,))),
    Awkward("implicit types", _of(*(replace(scan, syntax=ImplicitVRLittleEndian) for scan in CLEAN)), Expected((USED,))),
    Awkward("oblique", _of(*(replace(scan, orientation=OBLIQUE) for scan in CLEAN)), Expected((USED,))),
    Awkward("sagittal 3D", _of(FLAIR, MPRAGE), Expected(({"FLAIR": 401, "T1": 7},))),
    Awkward("coronal", _of(*(replace(scan, orientation=CORONAL) for scan in CLEAN)), Expected((USED,))),
    Awkward("enhanced multi-frame", _enhanced_only, Expected(({"FLAIR": 401, "T1": 601},))),
    Awkward("enhanced, two echoes", _enhanced_two_echoes, Expected(({"FLAIR": 401},), {}, "same position")),
    Awkward("Japanese name", _of(*(replace(scan, patient=_JAPANESE) for scan in CLEAN)), Expected((USED,))),
    Awkward("one slice", _of(T1, T2, replace(FLAIR, slices=1)), Expected((_NO_FLAIR,), {}, "one slice only")),
    Awkward("empty folder", _empty, Expected(())),
    Awkward("other files", _text_files, Expected((USED,), {"not DICOM": 2, "hidden": 1})),
    Awkward("links in circles", _symlink_loop, Expected((USED,), {"can't be opened": 1}, "can't be opened")),
    Awkward("read-only", _read_only, Expected((USED,))),
    Awkward("zip", _zip, Expected((USED,))),
    Awkward("zip among files", _zip_in_folder, Expected(({**USED, "FLAIR": 402},))),
    Awkward("zip that leads out", _zip_leading_out, Expected((), {}, "lead out of its own folder")),
    Awkward("truncated zip", _zip_truncated, Expected((), {}, "truncated or damaged")),
    Awkward("encrypted zip", _zip_encrypted, Expected((), {}, "is encrypted")),
    Awkward("DICOMDIR", _dicomdir, Expected((USED,), {"DICOMDIR": 1})),
    Awkward("interleaved echoes", _dual_echo, Expected((USED,))),
    Awkward("screenshot and report", _other_objects, Expected((USED,), {"secondary captures": 1, "no images (SR)": 1})),
    Awkward("folder named like the patient", _patient_folder, Expected((USED,))),
    Awkward(
        "no pixel spacing", _of(T1, T2, with_tags(FLAIR, PixelSpacing=None)), Expected((_NO_FLAIR,), {}, "pixel spacing")
    ),
    Awkward(
        "no positions",
        _of(T1, T2, with_tags(FLAIR, ImagePositionPatient=None)),
        Expected((_NO_FLAIR,), {}, "without a position"),
    ),
    *(
        Awkward(f"pixel spacing {name}", _of(T1, T2, _with_spacing(*values)), Expected((_NO_FLAIR,), {}, sentence))
        for name, values, sentence in (
            ("0", (0, 0), "does not give its pixel spacing"),
            ("negative", (-4, -4), "does not give its pixel spacing"),
            ("x 100", (400, 400), "which no scan of a head has"),
            ("x 10", (40, 40), "which no scan of a head has"),
            ("x 6", (19, 19), "which no scan of a head is"),
            ("in metres", (0.004, 0.004), "which no scan of a head has"),
            ("x 0.1", (0.4, 0.4), "which no scan of a head is"),
        )
    ),
    Awkward("pixel spacing NaN", _spacing_of_text, Expected((_NO_FLAIR,), {}, "does not give its pixel spacing")),
    Awkward("position NaN", _position_of_text, Expected((_NO_FLAIR,), {}, "without a position")),
    Awkward(
        "slices 10 times apart", _of(T1, T2, replace(FLAIR, spacing=100.0)), Expected((_NO_FLAIR,), {}, "no scan of a head")
    ),
    Awkward("far away", _far_away, Expected((_NO_FLAIR,), {}, "lies more than 100 m")),
    Awkward("colour", _colour, Expected((_NO_FLAIR,), {}, "is in colour")),
    Awkward("no series number", _no_series_uid, Expected((USED,))),
    Awkward(
        "unequal spacing",
        _of(T1, T2, replace(FLAIR, shifts={3: 3.0, 4: 3.0})),
        Expected((_NO_FLAIR,), {}, "unequal distances"),
    ),
    Awkward("shifted sideways", _sheared, Expected((_NO_FLAIR,), {}, "shifted sideways")),
    Awkward("two packages", _packages, Expected((USED,))),
    Awkward("slices upside down", _of(T1, T2, replace(FLAIR, spacing=-10.0)), Expected((USED,))),
    Awkward("zero bytes", _zero_bytes, Expected((_NO_FLAIR,), {"empty": 1}, "lacks 1 slice")),
    Awkward("two time points", _time_points, Expected((_NO_FLAIR,), {}, "time points")),
    Awkward("an echo time that is no number", _odd_values, Expected((USED,))),
    Awkward("not MR", _of(T1, T2, with_tags(FLAIR, Modality="CT")), Expected((_NO_FLAIR,), {}, "no MR image")),
)
