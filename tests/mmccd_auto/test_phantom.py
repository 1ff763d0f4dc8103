"""Simulated brains: signal equations, people, and the dataset they are written as."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.imaging.brain_mask import examine_brain
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.orientation import to_canonical
from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.phantom.dataset import TEST_LESIONS, PhantomPeople, write_phantom_dataset
from mmccd_auto.phantom.fields import smooth_field
from mmccd_auto.phantom.lesions import Lesion, place_lesion
from mmccd_auto.phantom.picture import phantom_picture
from mmccd_auto.phantom.signal import HEALTHY, LESIONS, SEQUENCES, Relaxation, Sequence, signal
from mmccd_auto.phantom.subject import Acquisition, Subject, simulate_subject
from mmccd_auto.phantom.tissue_maps import TISSUES, TissueMaps, load_tissue_maps

RESOLUTION = 4


@pytest.fixture(scope="module")
def maps() -> TissueMaps:
    return load_tissue_maps(RESOLUTION)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantom_dataset(
        tmp_path_factory.mktemp("raw"),
        people=PhantomPeople(training_subjects=2, test_subjects=len(TEST_LESIONS), resolution=RESOLUTION),
        number=5,
    )


def simulate(maps: TissueMaps, *lesions: Lesion, seed: int = 0, acquisition: Acquisition | None = None) -> Subject:
    return simulate_subject(maps, acquisition or Acquisition(RESOLUTION), lesions, np.random.default_rng(seed))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- signal equations ---------------------------------------------------------------------------------------------------


def test_spin_echo_by_hand() -> None:
    # TR = T1 and TE = T2: PD (1 - 1/e) / e
    assert signal(Relaxation(800, 80, 0.5), Sequence(800, 80)) == pytest.approx(0.5 * 0.6321206 * 0.3678794, rel=1e-6)


def test_inversion_recovery_by_hand() -> None:
    # TI = T1, TR = 4 T1, TE = T2: PD |1 - 2/e + e^-4| / e
    expected = 0.9 * (1 - 0.7357589 + 0.0183156) * 0.3678794
    assert signal(Relaxation(500, 100, 0.9), Sequence(2000, 100, 500)) == pytest.approx(expected, rel=1e-6)


def test_inversion_recovery_is_a_magnitude_and_null_at_its_inversion_time() -> None:
    t1, repetition = 1000.0, 4000.0
    null = t1 * (math.log(2) - math.log(1 + math.exp(-repetition / t1)))
    tissue = Relaxation(t1, 100, 1)
    assert signal(tissue, Sequence(repetition, 10, null)) == pytest.approx(0, abs=1e-9)
    assert signal(tissue, Sequence(repetition, 10, null / 2)) > 0
    assert signal(tissue, Sequence(repetition, 10, null * 2)) > 0


def test_signal_of_arrays_is_voxel_by_voxel() -> None:
    t1 = np.array([[500.0, 900.0]])
    found = signal(Relaxation(t1, 80, 0.8), SEQUENCES["FLAIR"])
    assert found.shape == t1.shape
    assert found[0, 1] == pytest.approx(signal(Relaxation(900, 80, 0.8), SEQUENCES["FLAIR"]))


def test_healthy_contrasts_are_those_of_a_radiology_department() -> None:
    of = {
        modality: {tissue: signal(values, sequence) for tissue, values in HEALTHY.items()}
        for modality, sequence in SEQUENCES.items()
    }
    assert of["T1"]["white matter"] > 1.1 * of["T1"]["grey matter"] > 1.5 * of["T1"]["fluid"]
    assert of["T2"]["fluid"] > 1.5 * of["T2"]["grey matter"] > 1.5 * of["T2"]["white matter"]
    assert 1.05 < of["FLAIR"]["grey matter"] / of["FLAIR"]["white matter"] < 1.4
    assert of["FLAIR"]["fluid"] < 0.2 * of["FLAIR"]["white matter"]


# --- fields and maps ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "shape"), [(1.0, (12, 20, 16)), (7.0, (31, 40, 37)), (25.0, (30, 50, 40))])
def test_smooth_field_is_standardised_and_smooth(sigma: float, shape: tuple[int, ...]) -> None:
    field = smooth_field(shape, sigma, np.random.default_rng(1))
    assert field.shape == shape
    assert field.mean() == pytest.approx(0, abs=1e-4)
    assert field.std() == pytest.approx(1, abs=1e-4)
    assert np.abs(np.diff(field, axis=0)).max() < 3 / sigma


def test_tissue_maps_are_shares_in_the_right_places(maps: TissueMaps) -> None:
    assert maps.shares.shape == (len(TISSUES), *reversed(maps.geometry.size))
    assert maps.shares.min() >= 0
    assert maps.shares.sum(axis=0).max() <= 1 + 1e-5

    def tissue_at(left: float, posterior: float, superior: float) -> str:
        point = np.array([left, posterior, superior]) - maps.geometry.origin
        index = np.rint(np.array(maps.geometry.direction).reshape(3, 3).T @ point / maps.geometry.spacing).astype(int)
        return TISSUES[int(maps.shares[(slice(None), *index[::-1])].argmax())]

    assert tissue_at(24, 28, 28) == tissue_at(-24, 28, 28) == "white matter"  # corona radiata, left and right
    assert "grey" in tissue_at(8, -20, 4)  # head of the caudate nucleus
    assert tissue_at(4, -8, 12) == "fluid"  # frontal horn, in front of the origin
    assert tissue_at(2, 46, -36) == "fluid"  # fourth ventricle, behind and below


# --- people -------------------------------------------------------------------------------------------------------------


def test_scans_of_a_person_share_grid_and_brain_and_have_zero_background(maps: TissueMaps) -> None:
    subject = simulate(maps, Lesion("hyperintense", 14))
    brain = subject.scans["FLAIR"].array > 0
    assert 900 < brain.sum() * RESOLUTION**3 / 1000 < 2300
    for volume in subject.scans.values():
        assert volume.geometry == subject.label.geometry
        np.testing.assert_array_equal(volume.array != 0, brain)
        assert volume.array.min() == 0
        report = examine_brain(volume.array.astype(np.float32), volume.geometry.spacing)
        assert report.usable
        assert (report.mask == brain).mean() > 0.999
    assert not subject.label.array[~brain].any()


def test_person_without_lesions_has_an_empty_label(maps: TissueMaps) -> None:
    assert not simulate(maps).label.array.any()


def test_fluid_is_dark_on_flair_and_t1_and_bright_on_t2(maps: TissueMaps) -> None:
    subject = simulate(maps)
    scans = {modality: volume.array.astype(float) for modality, volume in subject.scans.items()}
    brain = scans["T2"] > 0
    fluid = brain & (scans["T2"] >= np.percentile(scans["T2"][brain], 99))
    for modality in ("FLAIR", "T1"):
        assert np.median(scans[modality][fluid]) < 0.6 * np.median(scans[modality][brain])


# Sign of (lesion - healthy white matter) that the relaxation times of the kind must give; 0 where it is hardly seen.
SIGNS = {
    "hyperintense": {"FLAIR": 1, "T1": -1, "T2": 1},
    "isointense": {"FLAIR": 0, "T1": -1, "T2": 1},
    "hypointense": {"FLAIR": -1, "T1": -1, "T2": 1},
    "haemorrhage": {"FLAIR": -1, "T1": -1, "T2": -1},
}


@pytest.mark.parametrize("kind", LESIONS)
def test_lesion_has_the_contrast_of_its_kind(kind: str, maps: TissueMaps) -> None:
    subject = simulate(maps, Lesion(kind, 16), seed=3)
    inside = subject.label.array > 0
    assert inside.sum() * RESOLUTION**3 > 2000
    for modality, sign in SIGNS[kind].items():
        scan = subject.scans[modality].array.astype(float)
        # Most of the brain's white matter lies in the upper half of T1.
        t1 = subject.scans["T1"].array
        white = (t1 > np.percentile(t1[t1 > 0], 60)) & ~inside
        contrast = np.median(scan[inside]) / np.median(scan[white]) - 1
        assert contrast * sign > 0.1 if sign else abs(contrast) < 0.3, modality


def test_isointense_lesion_is_within_reach_of_grey_matter_on_flair() -> None:
    lesion, grey = (signal(tissue, SEQUENCES["FLAIR"]) for tissue in (LESIONS["isointense"], HEALTHY["grey matter"]))
    assert lesion == pytest.approx(grey, rel=0.1)
    assert signal(LESIONS["hyperintense"], SEQUENCES["FLAIR"]) > 1.25 * grey


def test_lesion_is_one_blob_of_about_its_radius_away_from_others(maps: TissueMaps) -> None:
    shares = maps.shares
    occupied = np.zeros(shares.shape[1:], dtype=np.float32)
    first = place_lesion(Lesion("hyperintense", 14), shares, occupied, RESOLUTION, np.random.default_rng(5))
    second = place_lesion(Lesion("hypointense", 10), shares, first, RESOLUTION, np.random.default_rng(6))
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert first.max() <= 1
    radius = (3 / (4 * np.pi) * (first > 0.5).sum() * RESOLUTION**3) ** (1 / 3)
    assert 14 / 1.6 < radius < 14 * 1.6
    assert not ((first > 0.5) & (second > 0.5)).any()


@pytest.mark.parametrize("orientation", ["RAS", "PSL", "IRP"])
def test_stored_orientation_holds_the_same_anatomy(orientation: str, maps: TissueMaps) -> None:
    lesion = Lesion("hyperintense", 14)
    usual = simulate(maps, lesion, acquisition=Acquisition(RESOLUTION, "LPS", tilt=10))
    other = simulate(maps, lesion, acquisition=Acquisition(RESOLUTION, orientation, tilt=10))
    assert other.label.geometry.direction != usual.label.geometry.direction
    for volume, expected in [(other.label, usual.label), *((other.scans[name], usual.scans[name]) for name in SEQUENCES)]:
        turned = to_canonical(volume)
        assert turned.geometry.differences(expected.geometry) == []
        np.testing.assert_array_equal(turned.array, expected.array)


def test_tilt_makes_the_grid_oblique(maps: TissueMaps) -> None:
    geometry: Geometry = simulate(maps, acquisition=Acquisition(2 * RESOLUTION, tilt=12)).label.geometry
    direction = np.array(geometry.direction).reshape(3, 3)
    np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-9)
    assert np.rad2deg(np.arccos(direction[2, 2])) == pytest.approx(12)
    assert geometry.spacing == pytest.approx((RESOLUTION, RESOLUTION, 2 * RESOLUTION))


def test_people_differ_and_a_seed_repeats_a_person(maps: TissueMaps) -> None:
    one, again, other = (simulate(maps, seed=seed).scans["FLAIR"].array for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert ((one > 0) != (other > 0)).mean() > 0.01


# --- dataset ------------------------------------------------------------------------------------------------------------


def test_dataset_loads_with_everything_in_its_place(folder: Path) -> None:
    assert folder.name == "Dataset005_Phantom"
    dataset = load_dataset(folder)
    assert dataset.modalities == ("FLAIR", "T1", "T2")
    assert len(dataset.cases("Tr")) == 2
    assert len(dataset.cases("Ts")) == len(TEST_LESIONS)
    for split in ("Tr", "Ts"):
        for case in dataset.cases(split):
            assert dataset.available_modalities(case, split) == dataset.modalities
            assert dataset.content["cases"][case]["acquisition"]["slice_thickness"] > 0
            assert dataset.subject(case) == case


def test_healthy_people_have_no_lesion_and_the_others_have_what_is_written(folder: Path) -> None:
    dataset = load_dataset(folder)
    assert all(dataset.label_file(case) is None for case in dataset.cases("Tr"))
    assert all(dataset.content["cases"][case]["lesions"] == [] for case in dataset.cases("Tr"))
    healthy = 0
    for case, lesions in zip(dataset.cases("Ts"), TEST_LESIONS, strict=True):
        label = read_volume(dataset.label_file(case, "Ts"))
        described = dataset.content["cases"][case]
        assert [lesion["kind"] for lesion in described["lesions"]] == [lesion.kind for lesion in lesions]
        assert bool(label.array.any()) == bool(lesions)
        assert described["abnormal_ml"] == pytest.approx(label.array.sum() * label.geometry.voxel_volume / 1000, abs=0.01)
        healthy += not lesions
    assert healthy == 1


def test_a_person_depends_on_nothing_but_seed_and_number(folder: Path, tmp_path: Path) -> None:
    fewer = write_phantom_dataset(
        tmp_path, people=PhantomPeople(training_subjects=1, test_subjects=1, resolution=RESOLUTION), number=5, processes=1
    )
    expected = files_of(folder)
    written = {name: content for name, content in files_of(fewer).items() if name != "dataset.json"}
    assert len(written) == 2 * 3 + 1
    assert all(content == expected[name] for name, content in written.items())


def test_another_seed_gives_other_people(folder: Path, tmp_path: Path) -> None:
    other = write_phantom_dataset(
        tmp_path, people=PhantomPeople(training_subjects=1, test_subjects=0, resolution=RESOLUTION, seed=1), number=5
    )
    name = "imagesTr/healthy_00_0000.nii.gz"
    assert files_of(other)[name] != files_of(folder)[name]


@pytest.mark.parametrize("wrong", [{"training_subjects": 0}, {"test_subjects": -1}, {"resolution": 0}, {"resolution": 9}])
def test_senseless_numbers_are_refused(wrong: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(MMCCDError):
        write_phantom_dataset(tmp_path, people=PhantomPeople(**wrong))
    assert list(tmp_path.iterdir()) == []


def test_picture_is_written(tmp_path: Path) -> None:
    path = tmp_path / "phantom.png"
    phantom_picture(path, resolution=RESOLUTION)
    assert path.stat().st_size < 400_000
    picture = imread(path)[..., :3]
    red = (picture[..., 0] > 0.6) & (picture[..., 1] < 0.5)
    assert red.sum() > 50
    assert (picture.mean(axis=2) > 0.5).mean() > 0.05
