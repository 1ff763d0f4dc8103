"""Segmentations and parametric maps lie where their scan lies, and tell nothing of the patient."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dcm2niix
import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from scored_images import MEANING, MODEL

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.dicom.writing.identity import DicomIdentity
from mmccd_auto.dicom.writing.objects import write_parametric_map, write_segmentation
from mmccd_auto.dicom.writing.score_meaning import ScoreMeaning
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Geometry, Volume

SINGLE_FRAME = "1.2.840.10008.5.1.4.1.1.4"
MULTI_FRAME = "1.2.840.10008.5.1.4.1.1.4.1"
PLANTED = {
    "PatientName": "ZZNAME^Geheim",
    "PatientID": "ZZID-4711",
    "PatientBirthDate": "19510203",
    "PatientSex": "F",
    "PatientAge": "071Y",
    "PatientWeight": "77.125",
    "PatientComments": "ZZCOMMENT",
    "OtherPatientIDs": "ZZOTHER",
    "IssuerOfPatientID": "ZZISSUER",
    "AccessionNumber": "ZZACC",
    "StudyID": "ZZSTUDY",
    "StudyDate": "20220304",
    "StudyTime": "101112.654321",
    "StudyDescription": "ZZDESCRIPTION",
    "SeriesDescription": "ZZSERIES",
    "ReferringPhysicianName": "ZZDOCTOR^Hanna",
    "InstitutionName": "ZZHOSPITAL",
    "InstitutionAddress": "ZZSTREET",
    "StationName": "ZZSTATION",
    "OperatorsName": "ZZOPERATOR",
    "DeviceSerialNumber": "ZZSERIAL",
    "Manufacturer": "ZZMAKER",
}
SECRETS = ["ZZ", "Geheim", "Hanna", *(value for value in PLANTED.values() if len(value) > 1)]
CASE = DicomIdentity("case_0007")
# Axial, sagittal and coronal as scanners write them: direction along a row, then along a column.
AXIAL = (1, 0, 0, 0, 1, 0)
SAGITTAL = (0, 1, 0, 0, 0, -1)
CORONAL = (1, 0, 0, 0, 0, -1)
CENTRE = np.array([12.0, -21.0, 33.0])


def rotated(angle: float, about: float) -> tuple[float, ...]:
    """The axial orientation, turned by ``angle`` about x and by ``about`` about z (degrees)."""
    a, b = np.deg2rad([angle, about])
    turn = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    )
    return (*turn[:, 0], *turn[:, 1])


@dataclass(frozen=True)
class Series:
    """A scan that lies around CENTRE; ``reverse`` numbers its images against the normal."""

    orientation: tuple[float, ...] = AXIAL
    spacing: tuple[float, float] = (1.5, 1.0)
    gap: float = 2.5
    shape: tuple[int, int, int] = (9, 21, 26)
    reverse: bool = False

    def positions(self) -> list[np.ndarray]:
        row, column = np.reshape(self.orientation, (2, 3))
        planes, rows, columns = self.shape
        normal = np.cross(row, column)
        corner = CENTRE - row * columns / 2 * self.spacing[1] - column * rows / 2 * self.spacing[0]
        found = [corner + normal * self.gap * (plane - planes // 2) for plane in range(planes)]
        return found[::-1] if self.reverse else found


SERIES = {
    "axial": Series(),
    "axial reversed": Series(reverse=True),
    "sagittal": Series(SAGITTAL),
    "sagittal reversed": Series(SAGITTAL, reverse=True),
    "coronal": Series(CORONAL, spacing=(0.75, 1.25)),
    "coronal reversed": Series(CORONAL, reverse=True),
    "oblique": Series(rotated(23, 17)),
    "oblique at 45 degrees": Series(rotated(45, 45), spacing=(1.25, 1.25), reverse=True),
    "rounded cosines": Series(tuple(np.round(rotated(23, 17), 4))),
}


def common(number: int, sop_class: str, planted: dict[str, str], seed: str) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = sop_class
    uid = generate_uid(entropy_srcs=[seed, str(number)])
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = uid
    image.SpecificCharacterSet = "ISO_IR 100"
    for keyword, value in planted.items():
        setattr(image, keyword, value)
    image.Modality = "MR"
    image.SeriesNumber, image.InstanceNumber = 301, number
    image.StudyInstanceUID = generate_uid(entropy_srcs=[seed, "study"])
    image.SeriesInstanceUID = generate_uid(entropy_srcs=[seed, "series"])
    image.FrameOfReferenceUID = generate_uid(entropy_srcs=[seed, "frame"])
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    return image


def write_single_frames(folder: Path, series: Series, planted: dict[str, str] = PLANTED, seed: str = "a") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    planes, rows, columns = series.shape
    pixels = np.random.default_rng(0).integers(0, 900, (planes, rows, columns), np.uint16)
    files = []
    for number, position in enumerate(series.positions(), 1):
        image = common(number, SINGLE_FRAME, planted, seed)
        image.ImageType = ["ORIGINAL", "PRIMARY", "M", "SE"]
        image.ScanningSequence, image.SequenceVariant, image.MRAcquisitionType = "SE", "NONE", "2D"
        image.EchoTime, image.RepetitionTime = 100, 4000
        image.Rows, image.Columns = rows, columns
        image.PixelSpacing, image.SliceThickness = list(series.spacing), series.gap
        image.ImagePositionPatient = [round(float(value), 6) for value in position]
        image.ImageOrientationPatient = [round(float(value), 9) for value in series.orientation]
        image.PixelData = pixels[number - 1].tobytes()
        files.append(folder / f"image_{number:02d}.dcm")
        image.save_as(files[-1], enforce_file_format=True)
    return files


def item(**values: object) -> list[Dataset]:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return [made]


def write_multi_frame(folder: Path, series: Series, orientation_per_frame: bool) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    planes, rows, columns = series.shape
    image = common(1, MULTI_FRAME, PLANTED, "e")
    image.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    image.Rows, image.Columns, image.NumberOfFrames = rows, columns, planes
    fixed = {
        "PlaneOrientationSequence": item(ImageOrientationPatient=[round(float(v), 9) for v in series.orientation]),
        "PixelMeasuresSequence": item(PixelSpacing=list(series.spacing), SliceThickness=series.gap),
    }
    image.SharedFunctionalGroupsSequence = item(**({} if orientation_per_frame else fixed))
    groups = []
    for number, position in enumerate(series.positions(), 1):
        own = {
            "FrameContentSequence": item(StackID="1", InStackPositionNumber=number, DimensionIndexValues=[1, number]),
            "PlanePositionSequence": item(ImagePositionPatient=[round(float(value), 6) for value in position]),
            "MREchoSequence": item(EffectiveEchoTime=100.0),
        }
        groups += item(**own, **(fixed if orientation_per_frame else {}))
    image.PerFrameFunctionalGroupsSequence = groups
    image.PixelData = np.random.default_rng(0).integers(0, 900, series.shape, np.uint16).tobytes()
    image.save_as(folder / "enhanced.dcm", enforce_file_format=True)
    return [folder / "enhanced.dcm"]


def convert(files: list[Path], folder: Path) -> Geometry:
    """The grid on which dcm2niix puts the images."""
    folder.mkdir()
    images = folder / "images"
    images.mkdir()
    for number, file in enumerate(files):
        (images / str(number)).symlink_to(file)
    command = [dcm2niix.bin, "-b", "n", "-z", "n", "-f", "scan", "-o", str(folder), str(images)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    (found,) = folder.glob("*.nii")
    return read_volume(found).geometry


def positions_of(geometry: Geometry) -> np.ndarray:
    """Centres of the voxels in patient coordinates (LPS, mm), [z, y, x, 3]."""
    x, y, z = geometry.size
    indices = np.stack(np.meshgrid(np.arange(z), np.arange(y), np.arange(x), indexing="ij"), axis=-1)[..., ::-1]
    return indices * geometry.spacing @ np.reshape(geometry.direction, (3, 3)).T + geometry.origin


def inside(positions: np.ndarray) -> np.ndarray:
    """A ball with a horn: no turn or mirror image of it is the same."""
    ball = np.linalg.norm(positions - (CENTRE + (2.3, -1.7, 1.1)), axis=-1) < 5.2
    horn = (np.abs(positions - (CENTRE + (7.1, 2.6, 3.4))) < (4.4, 1.6, 2.9)).all(axis=-1)
    return ball | horn


def height(positions: np.ndarray) -> np.ndarray:
    """A score that is another one in every voxel."""
    return (100 + (positions - CENTRE) @ (1.0, 0.37, 0.113)).astype(np.float32)


def on(geometry: Geometry, of: Callable[[np.ndarray], np.ndarray]) -> Volume:
    return Volume(of(positions_of(geometry)), geometry)


def frame_positions(written: Dataset, number: int) -> np.ndarray:
    """Centres of a frame's pixels in patient coordinates, [row, column, 3], after the standard's own formula."""
    shared = written.SharedFunctionalGroupsSequence[0]
    row, column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    frame = written.PerFrameFunctionalGroupsSequence[number]
    corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
    rows, columns = np.meshgrid(np.arange(written.Rows), np.arange(written.Columns), indexing="ij")
    return corner + rows[..., None] * between_rows * column + columns[..., None] * between_columns * row


def check_references(written: Dataset, files: list[Path]) -> None:
    """Each frame names the very image that lies where it lies."""
    sources = {image.SOPInstanceUID: image for image in map(pydicom.dcmread, files)}
    first = next(iter(sources.values()))
    assert written.StudyInstanceUID == first.StudyInstanceUID
    assert written.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert written.SeriesInstanceUID != first.SeriesInstanceUID
    (series,) = written.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == first.SeriesInstanceUID
    assert {entry.ReferencedSOPInstanceUID for entry in series.ReferencedInstanceSequence} == set(sources)
    named = set()
    for frame in written.PerFrameFunctionalGroupsSequence:
        (reference,) = frame.DerivationImageSequence[0].SourceImageSequence
        source = sources[reference.ReferencedSOPInstanceUID]
        assert reference.SpatialLocationsPreserved == "YES"
        number = reference.get("ReferencedFrameNumber")
        named.add((reference.ReferencedSOPInstanceUID, number))
        at = source if number is None else source.PerFrameFunctionalGroupsSequence[number - 1].PlanePositionSequence[0]
        assert np.allclose(
            np.array(at.ImagePositionPatient, float), frame.PlanePositionSequence[0].ImagePositionPatient, atol=1e-6
        )
    assert len(named) == len(written.PerFrameFunctionalGroupsSequence) == written.NumberOfFrames


def all_uids(dataset: Dataset) -> set[str]:
    """The UIDs of instances that a dataset holds at any depth, but for those of the standard."""
    found = {str(element.value) for element in dataset.iterall() if element.VR == "UI"}
    return {uid for uid in found if not uid.startswith("1.2.840.10008.")}


def check_renumbered(written: list[Dataset], files: list[Path]) -> None:
    """Objects of one scan agree with each other, and share no number with the scan's images."""
    sources = [pydicom.dcmread(path) for path in files]
    old = {uid for source in sources for uid in all_uids(source) | all_uids(source.file_meta)}
    for dataset in written:
        assert not (all_uids(dataset) | all_uids(dataset.file_meta)) & old
        named = {
            entry.ReferencedSOPInstanceUID
            for frame in dataset.PerFrameFunctionalGroupsSequence
            for entry in frame.DerivationImageSequence[0].SourceImageSequence
        }
        assert len(named) == len(files)
    studies = {(dataset.StudyInstanceUID, dataset.FrameOfReferenceUID) for dataset in written}
    assert len(studies) == 1
    references = [dataset.ReferencedSeriesSequence[0] for dataset in written]
    assert len({reference.SeriesInstanceUID for reference in references}) == 1
    instances = [{entry.ReferencedSOPInstanceUID for entry in one.ReferencedInstanceSequence} for one in references]
    assert all(one == instances[0] for one in instances)


def check_both(files: list[Path], geometry: Geometry, folder: Path, atol: float = 2e-3) -> None:
    """Write both objects and compare each of their voxels with the same function of the patient's coordinates."""
    mask, score = on(geometry, inside), on(geometry, height)
    assert 50 < mask.array.sum() < mask.array.size / 2
    write_segmentation(mask, files, folder / "filed_mask.dcm", None, MODEL, MEANING)
    write_parametric_map(score, files, folder / "filed_score.dcm", None, MODEL, MEANING)
    filed = [pydicom.dcmread(folder / name) for name in ("filed_mask.dcm", "filed_score.dcm")]
    for one in filed:
        check_references(one, files)
    write_segmentation(mask, files, folder / "mask.dcm", CASE, MODEL, MEANING)
    write_parametric_map(score, files, folder / "score.dcm", CASE, MODEL, MEANING)

    segmentation = pydicom.dcmread(folder / "mask.dcm")
    parametric_map = pydicom.dcmread(folder / "score.dcm")
    check_renumbered([segmentation, parametric_map], files)
    for one, other in zip(filed, (segmentation, parametric_map), strict=True):
        assert np.array_equal(one.pixel_array, other.pixel_array)
    places = np.stack([frame_positions(segmentation, number) for number in range(segmentation.NumberOfFrames)])
    assert np.array_equal(segmentation.pixel_array.astype(bool), inside(places))
    places = np.stack([frame_positions(parametric_map, number) for number in range(parametric_map.NumberOfFrames)])
    assert np.allclose(parametric_map.pixel_array, height(places), atol=atol)
    right_handed = np.cross(places[0, 0, 1] - places[0, 0, 0], places[0, 1, 0] - places[0, 0, 0])
    assert (np.diff(places[:, 0, 0] @ right_handed) > 0).all()
    assert parametric_map.pixel_array.dtype == np.float32

    read = highdicom.seg.segread(folder / "mask.dcm").get_volume(combine_segments=True)
    indices = np.argwhere(read.array >= 0)
    places = read.map_indices_to_reference(indices)
    assert np.array_equal(read.array.ravel().astype(bool), inside(places))
    read = highdicom.imread(folder / "score.dcm").get_volume()
    assert np.allclose(read.array.ravel(), height(places), atol=atol)


@pytest.fixture(scope="module")
def axial(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Geometry]:
    """An axial series and its grid."""
    folder = tmp_path_factory.mktemp("axial")
    files = write_single_frames(folder / "dicom", SERIES["axial"])
    return files, convert(files, folder / "nifti")


@pytest.mark.parametrize("name", SERIES)
def test_single_frame_series(name: str, tmp_path: Path) -> None:
    files = write_single_frames(tmp_path / "dicom", SERIES[name])
    geometry = convert(files, tmp_path / "nifti")
    shuffled = [files[index] for index in np.random.default_rng(1).permutation(len(files))]
    check_both(shuffled, geometry, tmp_path, atol=0.05 if name == "rounded cosines" else 2e-3)


@pytest.mark.parametrize("orientation_per_frame", [False, True])
@pytest.mark.parametrize("name", ["axial", "sagittal reversed", "oblique"])
def test_multi_frame_image(name: str, orientation_per_frame: bool, tmp_path: Path) -> None:
    files = write_multi_frame(tmp_path / "dicom", SERIES[name], orientation_per_frame)
    check_both(files, convert(files, tmp_path / "nifti"), tmp_path)


def test_orientations_that_differ_in_the_last_digits(tmp_path: Path) -> None:
    files = write_single_frames(tmp_path / "dicom", SERIES["oblique"])
    geometry = convert(files, tmp_path / "nifti")
    image = pydicom.dcmread(files[3])
    image.ImageOrientationPatient = [float(value) + 1e-7 for value in image.ImageOrientationPatient]
    image.save_as(files[3])
    check_both(files, geometry, tmp_path)


def test_planes_with_two_echoes_refer_to_both(tmp_path: Path) -> None:
    files = write_multi_frame(tmp_path / "dicom", SERIES["coronal"], orientation_per_frame=False)
    geometry = convert(files, tmp_path / "nifti")
    image = pydicom.dcmread(files[0])
    image.PerFrameFunctionalGroupsSequence = [frame for frame in image.PerFrameFunctionalGroupsSequence for _ in range(2)]
    image.NumberOfFrames *= 2
    image.PixelData *= 2
    image.save_as(files[0])
    write_segmentation(on(geometry, inside), files, tmp_path / "mask.dcm", CASE, MODEL, MEANING)
    written = pydicom.dcmread(tmp_path / "mask.dcm")
    places = np.stack([frame_positions(written, number) for number in range(written.NumberOfFrames)])
    assert np.array_equal(written.pixel_array.astype(bool), inside(places))
    named = [
        {reference.ReferencedFrameNumber for reference in frame.DerivationImageSequence[0].SourceImageSequence}
        for frame in written.PerFrameFunctionalGroupsSequence
    ]
    planes = SERIES["coronal"].shape[0]
    assert sorted(named, key=min) == [{2 * plane + 1, 2 * plane + 2} for plane in range(planes)]


def test_unevenly_spaced_slices_keep_their_images(tmp_path: Path) -> None:
    files = write_single_frames(tmp_path / "dicom", SERIES["axial"])
    geometry = convert(files, tmp_path / "nifti")
    image = pydicom.dcmread(files[4])
    image.ImagePositionPatient[2] += 0.3
    image.save_as(files[4])
    write_segmentation(on(geometry, inside), files, tmp_path / "mask.dcm", None, MODEL, MEANING)
    check_references(pydicom.dcmread(tmp_path / "mask.dcm"), files)


def test_empty_mask_is_a_result(axial: tuple[list[Path], Geometry], tmp_path: Path) -> None:
    files, geometry = axial
    empty = Volume(np.zeros(geometry.size[::-1], np.uint8), geometry)
    write_segmentation(empty, files, tmp_path / "mask.dcm", None, MODEL, MEANING)
    check_references(pydicom.dcmread(tmp_path / "mask.dcm"), files)
    read = highdicom.seg.segread(tmp_path / "mask.dcm")
    assert read.segment_numbers == [1]
    assert read.NumberOfFrames == len(files)
    assert not read.get_volume(combine_segments=True).array.any()


def test_score_of_zero(axial: tuple[list[Path], Geometry], tmp_path: Path) -> None:
    files, geometry = axial
    write_parametric_map(
        Volume(np.zeros(geometry.size[::-1], np.float32), geometry), files, tmp_path / "score.dcm", CASE, MODEL, MEANING
    )
    assert not highdicom.imread(tmp_path / "score.dcm").get_volume().array.any()


def test_candidates_are_a_segment_of_their_own(axial: tuple[list[Path], Geometry], tmp_path: Path) -> None:
    files, geometry = axial

    def small(places: np.ndarray) -> np.ndarray:
        return (np.linalg.norm(places - CENTRE - (9, -12, -6), axis=-1) < 3) & ~inside(places)

    def nothing(places: np.ndarray) -> np.ndarray:
        return np.zeros(places.shape[:-1], dtype=bool)

    for candidates, voxels in ((small, True), (nothing, False)):
        path = tmp_path / "mask.dcm"
        write_segmentation(on(geometry, inside), files, path, CASE, MODEL, MEANING, on(geometry, candidates))
        read = highdicom.seg.segread(path)
        labels = [segment.SegmentLabel for segment in read.SegmentSequence]
        assert labels == ["Abnormal tissue", "Candidate below the least lesion volume"]
        assert len({tuple(segment.RecommendedDisplayCIELabValue) for segment in read.SegmentSequence}) == 2
        for number, expected in ((1, inside), (2, candidates)):
            volume = read.get_volume(segment_numbers=[number], combine_segments=True, relabel=True)
            places = volume.map_indices_to_reference(np.argwhere(volume.array >= 0))
            assert np.array_equal(volume.array.ravel().astype(bool), expected(places))
        assert volume.array.any() == voxels


def test_what_the_objects_say(axial: tuple[list[Path], Geometry], tmp_path: Path) -> None:
    files, geometry = axial
    write_segmentation(on(geometry, inside), files, tmp_path / "mask.dcm", CASE, MODEL, MEANING)
    write_parametric_map(on(geometry, height), files, tmp_path / "score.dcm", CASE, MODEL, MEANING)
    written = pydicom.dcmread(tmp_path / "mask.dcm")
    assert written.SegmentationType == "BINARY"
    assert written.SeriesDescription == "mmccd_auto anomaly mask"
    assert (written.Manufacturer, written.ManufacturerModelName) == ("mmccd_auto", "mmccd_auto")
    assert written.SoftwareVersions
    (segment,) = written.SegmentSequence
    assert segment.SegmentLabel == "Abnormal tissue"
    assert segment.SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"
    (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("mmccd_auto", written.SoftwareVersions)
    assert "threshold=0.125" in algorithm.AlgorithmParameters
    assert MODEL.model in algorithm.AlgorithmParameters

    written = pydicom.dcmread(tmp_path / "score.dcm")
    assert written.SeriesDescription == "mmccd_auto anomaly score"
    (mapping,) = written.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    (anatomy,) = written.SharedFunctionalGroupsSequence[0].FrameAnatomySequence
    assert anatomy.AnatomicRegionSequence[0].CodeMeaning == "Brain"
    (unit,) = mapping.MeasurementUnitsCodeSequence
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("{ratio}", "UCUM")


@pytest.mark.parametrize(
    ("meaning", "explanation", "quantity", "unit", "comment"),
    [
        (
            ScoreMeaning("combined", True, 1.25, 0.005),
            "Anomaly score, calibrated; 1: top 1 % of healthy tissue",
            "ANOM_COMBINED",
            "{ratio}",
            "Anomaly score, brighter or darker than reconstructed. Calibrated: 1.0 is the score that is exceeded in 1 % "
            "of healthy tissue. The mask is made at the threshold 1.25, chosen so that about 0.5 % of healthy tissue exceed "
            "it. For research only.",
        ),
        (
            ScoreMeaning("brighter", True, 2.0),
            "Brighter than expected, calibrated; 1: top 1 % of healthy tissue",
            "ANOM_BRIGHTER",
            "{ratio}",
            "The mask is made at the threshold 2.",
        ),
        (
            ScoreMeaning("darker", True, None),
            "Darker than expected",
            "ANOM_DARKER",
            "{ratio}",
            "There is no threshold.",
        ),
        (ScoreMeaning("squared", True, 1.0), "Squared error, calibrated", "SQUARED_ERROR", "{ratio}", "Calibrated: 1.0 is"),
        (ScoreMeaning("combined", True, 1.0, is_mean=True), "Anomaly score", "ANOM_COMBINED", "{ratio}", "mean of several"),
        (
            ScoreMeaning("squared", False, 0.25),
            "Mean squared error of the normalised scan, not calibrated",
            "SQUARED_ERROR",
            "1",
            "Not calibrated",
        ),
    ],
    ids=lambda value: f"{value.score}_{value.calibrated}" if isinstance(value, ScoreMeaning) else "",
)
def test_the_map_says_what_it_holds(
    axial, tmp_path: Path, meaning: ScoreMeaning, explanation: str, quantity: str, unit: str, comment: str
) -> None:
    files, geometry = axial
    write_parametric_map(on(geometry, height), files, tmp_path / "score.dcm", CASE, MODEL, meaning)
    written = pydicom.dcmread(tmp_path / "score.dcm")
    (mapping,) = written.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert mapping.LUTExplanation.startswith(explanation[:64])
    assert ("squared error" in mapping.LUTExplanation.lower()) == (meaning.score == "squared")
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == unit
    (definition,) = mapping.QuantityDefinitionSequence
    assert definition.ConceptCodeSequence[0].CodeValue == quantity
    assert definition.ConceptCodeSequence[0].CodingSchemeDesignator == "99MMCCD"
    assert comment in written.ImageComments
    described = written.ContributingEquipmentSequence[0].ContributionDescription
    assert f"score {meaning.score}, calibrated {'yes' if meaning.calibrated else 'no'}" in described


def test_new_numbers_belong_to_the_pseudonym_and_the_salt(axial: tuple[list[Path], Geometry], tmp_path: Path) -> None:
    files, geometry = axial

    def study(identity: DicomIdentity) -> str:
        write_segmentation(on(geometry, inside), files, tmp_path / "mask.dcm", identity, MODEL, MEANING)
        return pydicom.dcmread(tmp_path / "mask.dcm").StudyInstanceUID

    assert study(CASE) == study(CASE)
    several = [
        CASE,
        DicomIdentity("case_0008"),
        DicomIdentity("case_0007", salt="secret"),
        DicomIdentity("case_0007", salt="s"),
    ]
    assert len({study(identity) for identity in several}) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"StudyInstanceUID": "each"},
        {"SeriesInstanceUID": "each"},
        {"FrameOfReferenceUID": "each"},
        {"SOPInstanceUID": "1.2.3.4"},
        {"StudyInstanceUID": ""},
        {"SeriesInstanceUID": None},
        {"FrameOfReferenceUID": None},
    ],
    ids=str,
)
def test_images_with_useless_numbers_get_new_ones(
    changes: dict[str, str | None], axial: tuple[list[Path], Geometry], tmp_path: Path
) -> None:
    files, geometry = axial
    changed = []
    for number, path in enumerate(files):
        image = pydicom.dcmread(path)
        for keyword, value in changes.items():
            if value is None:
                delattr(image, keyword)
            else:
                setattr(image, keyword, f"1.2.3.{number}" if value == "each" else value)
        changed.append(tmp_path / path.name)
        image.save_as(changed[-1])
    write_segmentation(on(geometry, inside), changed, tmp_path / "mask.dcm", CASE, MODEL, MEANING)
    written = pydicom.dcmread(tmp_path / "mask.dcm")
    check_renumbered([written], changed)
    places = np.stack([frame_positions(written, number) for number in range(written.NumberOfFrames)])
    assert np.array_equal(written.pixel_array.astype(bool), inside(places))
    with pytest.raises(MMCCDError, match="without --keep_identity"):
        write_segmentation(on(geometry, inside), changed, tmp_path / "mask.dcm", None, MODEL, MEANING)


@pytest.mark.parametrize("multi_frame", [False, True])
def test_nothing_of_the_patient_is_written(multi_frame: bool, tmp_path: Path) -> None:
    series = SERIES["axial"]
    folder = tmp_path / "dicom"
    files = write_multi_frame(folder, series, False) if multi_frame else write_single_frames(folder, series)
    geometry = convert(files, tmp_path / "nifti")
    write_segmentation(on(geometry, inside), files, tmp_path / "mask.dcm", CASE, MODEL, MEANING)
    write_parametric_map(on(geometry, height), files, tmp_path / "score.dcm", CASE, MODEL, MEANING)
    for name in ("mask.dcm", "score.dcm"):
        content = (tmp_path / name).read_bytes()
        written = pydicom.dcmread(tmp_path / name)
        content = content.replace(written.get("PixelData") or written.get("FloatPixelData"), b"")
        assert [secret for secret in SECRETS if secret.encode() in content] == []
        assert (written.PatientID, str(written.PatientName)) == ("case_0007", "case_0007")
        for keyword in (
            "PatientBirthDate",
            "PatientSex",
            "AccessionNumber",
            "StudyID",
            "StudyDate",
            "ReferringPhysicianName",
        ):
            assert not written[keyword].value
        assert str(tmp_path).encode() not in content


def test_identity_of_the_patient_is_kept_on_demand(tmp_path: Path) -> None:
    # An O where the standard wants one of three letters, and a name beyond ASCII.
    planted = PLANTED | {"PatientName": "Müller^Jürgen", "PatientSex": "0000"}
    files = write_single_frames(tmp_path / "dicom", SERIES["axial"], planted)
    geometry = convert(files, tmp_path / "nifti")
    write_segmentation(on(geometry, inside), files, tmp_path / "mask.dcm", None, MODEL, MEANING)
    write_parametric_map(on(geometry, height), files, tmp_path / "score.dcm", None, MODEL, MEANING)
    for name in ("mask.dcm", "score.dcm"):
        written = pydicom.dcmread(tmp_path / name)
        for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
            assert str(written[keyword].value) == planted[keyword]
        assert written.StudyDate == planted["StudyDate"]
        assert str(written.ReferringPhysicianName) == planted["ReferringPhysicianName"]
        assert "PatientComments" not in written
        assert "InstitutionName" not in written
        check_references(written, files)


def test_equal_runs_give_equal_objects(axial: tuple[list[Path], Geometry], tmp_path: Path) -> None:
    files, geometry = axial

    def without_times(name: str, identity: DicomIdentity | None = CASE, add: float = 0) -> str:
        score = on(geometry, height)
        write_parametric_map(Volume(score.array + add, geometry), files, tmp_path / name, identity, MODEL, MEANING)
        write_segmentation(on(geometry, inside), files, tmp_path / f"{name}.seg", identity, MODEL, MEANING)
        texts = []
        for path in (tmp_path / name, tmp_path / f"{name}.seg"):
            written = pydicom.dcmread(path)
            for keyword in ("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime"):
                delattr(written, keyword)
            for equipment in written.ContributingEquipmentSequence:
                equipment.ContributionDateTime = ""
            texts.append(written.to_json())
        return "\n".join(texts)

    def numbers(name: str) -> tuple[str, str]:
        written = pydicom.dcmread(tmp_path / name, stop_before_pixels=True)
        return written.SeriesInstanceUID, written.SOPInstanceUID

    assert without_times("a.dcm") == without_times("b.dcm")
    without_times("c.dcm", add=1)
    without_times("d.dcm", DicomIdentity("case_0008"))
    assert numbers("a.dcm")[0] == numbers("c.dcm")[0]
    assert len({numbers(name)[1] for name in ("a.dcm", "c.dcm", "d.dcm", "a.dcm.seg")}) == 4
    assert len({numbers(name)[0] for name in ("a.dcm", "d.dcm", "a.dcm.seg")}) == 3


def moved(geometry: Geometry, by: tuple[float, float, float]) -> Geometry:
    origin = tuple(float(value) for value in np.add(geometry.origin, by))
    return Geometry(geometry.size, geometry.spacing, origin, geometry.direction)


@pytest.mark.parametrize(
    "changed",
    [
        lambda grid: moved(grid, (0, 0, 2.5)),
        lambda grid: moved(grid, (1.0, 0, 0)),
        lambda grid: Geometry(grid.size, (1.0, 1.0, 2.5), grid.origin, grid.direction),
        lambda grid: Geometry((26, 21, 8), grid.spacing, grid.origin, grid.direction),
        lambda grid: Geometry(grid.size, grid.spacing, grid.origin, tuple(-value for value in grid.direction)),
        lambda grid: Geometry((21, 26, 9), grid.spacing, grid.origin, grid.direction),
    ],
    ids=["next slice", "next column", "other spacing", "a slice less", "mirrored", "rows for columns"],
)
def test_a_map_that_lies_elsewhere_is_refused(
    changed: Callable[[Geometry], Geometry], axial: tuple[list[Path], Geometry], tmp_path: Path
) -> None:
    files, geometry = axial
    other = changed(geometry)
    with pytest.raises(MMCCDError, match="does not lie on the grid of the DICOM images"):
        write_segmentation(on(other, inside), files, tmp_path / "mask.dcm", CASE, MODEL, MEANING)
    with pytest.raises(MMCCDError, match="does not lie on the grid of the DICOM images"):
        write_parametric_map(on(other, height), files, tmp_path / "score.dcm", CASE, MODEL, MEANING)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_image_in_the_files_is_refused(axial: tuple[list[Path], Geometry], tmp_path: Path) -> None:
    files, geometry = axial
    with pytest.raises(MMCCDError, match="does not lie on the grid"):
        write_segmentation(on(geometry, inside), files[:-1], tmp_path / "mask.dcm", CASE, MODEL, MEANING)


def spoil(files: list[Path], folder: Path, **changes: object) -> list[Path]:
    """The series with its third image changed; None removes an element."""
    image = pydicom.dcmread(files[2])
    for keyword, value in changes.items():
        if value is None:
            delattr(image, keyword)
        else:
            setattr(image, keyword, value)
    image.save_as(folder / "ZZNAME_changed.dcm")
    return [*files[:2], folder / "ZZNAME_changed.dcm", *files[3:]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"SeriesInstanceUID": "1.2.3"}, "are not one series"),
        ({"FrameOfReferenceUID": None}, "lacks FrameOfReferenceUID"),
        ({"ImagePositionPatient": None}, "does not say where it lies"),
        ({"ImageOrientationPatient": list(CORONAL)}, "are not parallel"),
    ],
)
def test_images_that_are_no_scan_are_refused(
    changes: dict[str, object], message: str, axial: tuple[list[Path], Geometry], tmp_path: Path
) -> None:
    files, geometry = axial
    with pytest.raises(MMCCDError, match=message) as caught:
        write_segmentation(on(geometry, inside), spoil(files, tmp_path, **changes), tmp_path / "m.dcm", None, MODEL, MEANING)
    assert "ZZ" not in str(caught.value)


def test_files_that_cannot_be_read(axial: tuple[list[Path], Geometry], tmp_path: Path) -> None:
    files, geometry = axial
    broken = tmp_path / "ZZNAME.dcm"
    broken.write_bytes(b"no image")
    for sources, message in [
        ([*files[:-1], tmp_path / "ZZNAME_gone.dcm"], "Image 9 of 9 of the scan does not exist"),
        ([broken], "no readable DICOM file"),
        ([], "No DICOM images"),
    ]:
        with pytest.raises(MMCCDError, match=message) as caught:
            write_segmentation(on(geometry, inside), sources, tmp_path / "mask.dcm", CASE, MODEL, MEANING)
        assert "ZZ" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [broken]


def test_scores_that_are_not_finite_are_refused(axial: tuple[list[Path], Geometry], tmp_path: Path) -> None:
    files, geometry = axial
    score = on(geometry, height)
    score.array[0, 0, 0] = np.nan
    with pytest.raises(MMCCDError, match="not finite"):
        write_parametric_map(score, files, tmp_path / "score.dcm", CASE, MODEL, MEANING)


@pytest.mark.parametrize("name", ["", "  ", "a" * 65, "a\\b", "a\nb"])
def test_pseudonyms_that_dicom_cannot_hold(name: str) -> None:
    with pytest.raises(MMCCDError, match="pseudonym"):
        DicomIdentity(name)


@pytest.mark.real_data
def test_a_real_export(real_data: Path, tmp_path: Path) -> None:
    files = [
        path
        for path in sorted((real_data / "hospital_export").iterdir())
        if pydicom.dcmread(path, stop_before_pixels=True).SeriesDescription == "sT2W/FLAIR"
    ]
    geometry = convert(files, tmp_path / "nifti")
    image = pydicom.dcmread(files[0], stop_before_pixels=True)
    near = positions_of(geometry).reshape(-1, 3).mean(axis=0)

    def ball(positions: np.ndarray) -> np.ndarray:
        return np.linalg.norm(positions - (near + (20, -13, 7)), axis=-1) < 18

    write_segmentation(on(geometry, ball), files, tmp_path / "mask.dcm", None, MODEL, MEANING)
    write_parametric_map(on(geometry, height), files, tmp_path / "score.dcm", None, MODEL, MEANING)
    segmentation = pydicom.dcmread(tmp_path / "mask.dcm")
    parametric_map = pydicom.dcmread(tmp_path / "score.dcm")
    check_references(segmentation, files)
    check_references(parametric_map, files)
    places = np.stack([frame_positions(segmentation, number) for number in range(segmentation.NumberOfFrames)])
    at_the_edge = np.abs(np.linalg.norm(places - (near + (20, -13, 7)), axis=-1) - 18) < 1e-3
    assert np.array_equal(segmentation.pixel_array.astype(bool) | at_the_edge, ball(places) | at_the_edge)
    assert segmentation.pixel_array.sum() == on(geometry, ball).array.sum()
    places = np.stack([frame_positions(parametric_map, number) for number in range(parametric_map.NumberOfFrames)])
    assert np.allclose(parametric_map.pixel_array, height(places), atol=5e-3)
    write_segmentation(on(geometry, ball), files, tmp_path / "pseudonymous.dcm", CASE, MODEL, MEANING)
    check_renumbered([pydicom.dcmread(tmp_path / "pseudonymous.dcm")], files)
    content = (tmp_path / "pseudonymous.dcm").read_bytes()
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyID", "InstitutionName"):
        assert str(image[keyword].value).encode() not in content
