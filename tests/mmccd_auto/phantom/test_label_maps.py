"""Heads simulated from label maps: whose they are, where they lie, and what a scanner makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.label_maps.anatomy import draw_anatomy
from mmccd_auto.phantom.label_maps.dataset import SimulatedPeople, write_simulated_people
from mmccd_auto.phantom.label_maps.read import LabelMap, find_label_maps, read_label_map
from mmccd_auto.phantom.label_maps.sampling import linear_weights, profile_weights, sampled
from mmccd_auto.phantom.label_maps.scanner import ScanFaults, draw_grid
from mmccd_auto.phantom.label_maps.structures import STRUCTURES, is_one_of, mirrored_numbers, numbers_of
from mmccd_auto.phantom.label_maps.subject import HeadFaults, simulate_head
from mmccd_auto.phantom.label_maps.tissues import AT_LOW_FIELD, MODALITIES, draw_sequence, draw_tissues, signals

EDGE = 2.0
GEOMETRY = Geometry((70, 80, 66), (EDGE,) * 3, (-70.0, -80.0, -66.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
SKIN, BONE, FLUID, CORTEX, WHITE, VENTRICLE = 511, 515, 24, (3, 42), (2, 41), (4, 43)


@pytest.fixture(scope="module")
def head() -> LabelMap:
    """Nested ellipsoids: skin, bone, fluid, folded cortex, white matter, ventricles; the sides have their own numbers."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in reversed(GEOMETRY.size)), indexing="ij")
    distance = np.sqrt((x / 0.95) ** 2 + (y / 0.95) ** 2 + (z / 0.95) ** 2)
    folds = 0.03 * np.sin(14 * x) * np.sin(14 * y) * np.sin(14 * z)
    side = (x > 0).astype(int)
    numbers = np.zeros(distance.shape, dtype=np.int16)
    for radius, number in ((1.0, SKIN), (0.92, BONE), (0.85, FLUID)):
        numbers[distance < radius] = number
    for radius, pair in ((0.78, CORTEX), (0.62, WHITE), (0.2, VENTRICLE)):
        inside = distance + (folds if pair == CORTEX else 0) < radius
        numbers[inside] = np.where(side, pair[0], pair[1])[inside]
    return LabelMap(numbers, GEOMETRY)


@pytest.fixture
def label_maps(tmp_path: Path, head: LabelMap) -> Path:
    folder = tmp_path / "label_maps"
    for name in ("first", "second"):
        write_volume(head.numbers, head.geometry, folder / f"{name}.nii.gz")
    return folder


def test_a_seed_gives_one_person_and_another_seed_another(head: LabelMap) -> None:
    first, again, other = (simulate_head(head, seed) for seed in ((3, 1), (3, 1), (3, 2)))
    for modality in MODALITIES:
        np.testing.assert_array_equal(first.scans[modality].array, again.scans[modality].array)
    assert first.geometry == again.geometry
    assert first.geometry != other.geometry


def test_a_modality_does_not_depend_on_which_others_are_asked_for(head: LabelMap) -> None:
    alone, among = simulate_head(head, 5, modalities=("T2",)), simulate_head(head, 5)
    assert set(alone.scans) == {"T2"}
    np.testing.assert_array_equal(alone.scans["T2"].array, among.scans["T2"].array)


def test_a_label_map_is_not_changed(head: LabelMap) -> None:
    before = head.numbers.copy()
    simulate_head(head, 0)
    np.testing.assert_array_equal(head.numbers, before)


@pytest.mark.parametrize("skull", [False, True])
def test_scans_hold_what_they_promise(head: LabelMap, skull: bool) -> None:
    made = simulate_head(head, 11, skull=skull)
    assert 1.7 < np.linalg.norm(made.geometry.spacing) < 11
    assert set(made.scans) == set(MODALITIES)
    brain = made.brain.array
    for scan in made.scans.values():
        assert scan.geometry == made.geometry
        assert scan.array.dtype == np.int16
        assert scan.array.shape == tuple(reversed(made.geometry.size)) == brain.shape
        assert scan.array.min() >= 0
        assert scan.array[brain].std() > 0.02 * scan.array[brain].mean()
        assert (scan.array[~brain] > 0).any() == skull
        if not skull:
            assert (scan.array[brain] > 0).all()


def test_a_brain_lies_where_the_label_map_has_one(head: LabelMap) -> None:
    """By centre and volume, with the room that deformation and outline have."""
    numbers = [number for number, structure in STRUCTURES.items() if structure.brain]
    there = is_one_of(head.numbers, numbers)
    wanted = np.array([np.mean(places) for places in reversed(np.nonzero(there))]) * EDGE + GEOMETRY.origin
    volume = there.sum() * EDGE**3
    for seed in range(4):
        made = simulate_head(head, seed, faults=0)
        image = made.brain.to_image()
        indices = [float(np.mean(places)) for places in reversed(np.nonzero(made.brain.array))]
        centre = np.array(image.TransformContinuousIndexToPhysicalPoint(indices))
        assert np.linalg.norm(centre - wanted) < 12
        assert 0.6 < made.brain.array.sum() * made.geometry.voxel_volume / volume < 1.8


def test_contrasts_are_those_of_the_sequences(head: LabelMap) -> None:
    """Fluid is dark on T1 and FLAIR and bright on T2; grey is darker than white matter on T1 and brighter on T2."""
    for seed in range(20):
        random = np.random.default_rng(seed)
        tissues = draw_tissues(random)
        by_modality = {name: signals(tissues, draw_sequence(name, tissues, random)) for name in MODALITIES}
        for modality, table in by_modality.items():
            white, grey, fluid = table[2], table[3], table[24]
            assert white == pytest.approx(1)
            assert (table >= 0).all()
            assert fluid > 1.2 if modality == "T2" else fluid < 0.7
            assert table[0] == 0
            if modality != "FLAIR":
                assert (grey > 1) == (modality == "T2")
    assert head.edge == EDGE


def test_people_differ_in_contrast() -> None:
    ratios = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        tissues = draw_tissues(random)
        ratios.append(signals(tissues, draw_sequence("FLAIR", tissues, random))[3])
    assert np.std(ratios) > 0.03
    assert 1.0 < np.median(ratios) < 1.5


def test_every_structure_has_a_tissue_and_a_side() -> None:
    for number, structure in STRUCTURES.items():
        assert structure.tissue in AT_LOW_FIELD
        if structure.partner is not None:
            other = STRUCTURES[structure.partner]
            assert (other.partner, other.name, other.tissue) == (number, structure.name, structure.tissue)
    table = mirrored_numbers()
    np.testing.assert_array_equal(table[table], np.arange(len(table)))
    assert set(table[numbers_of("fluid")]) == set(numbers_of("fluid"))


def test_ventricles_grow_and_shrink(head: LabelMap) -> None:
    sizes = [
        is_one_of(draw_anatomy(head, False, np.random.default_rng(seed)).numbers, VENTRICLE).sum() for seed in range(12)
    ]
    before = is_one_of(head.numbers, VENTRICLE).sum()
    assert min(sizes) < 1.2 * before
    assert max(sizes) > 1.6 * before


def test_sulci_open_and_close(head: LabelMap) -> None:
    """Old people have more fluid around the cortex than the label map, young ones less; sides keep their numbers."""
    shares = []
    for seed in range(12):
        numbers = draw_anatomy(head, True, np.random.default_rng(seed)).numbers
        shares.append(is_one_of(numbers, CORTEX).sum() / is_one_of(numbers, WHITE).sum())
        left, right = (np.mean(np.nonzero(numbers == number)[2]) for number in CORTEX)
        assert left > right
    before = is_one_of(head.numbers, CORTEX).sum() / is_one_of(head.numbers, WHITE).sum()
    assert min(shares) < 0.95 * before < 1.05 * before < max(shares)


def test_slices_are_thick_and_thin_with_gaps_and_without(head: LabelMap) -> None:
    shape, corner = head.numbers.shape, (0.0, 0.0, 0.0)
    grids = [draw_grid(shape, EDGE, corner, GEOMETRY, np.random.default_rng(seed)) for seed in range(200)]
    thickness = [grid.thickness for grid in grids]
    assert 1.0 <= min(thickness) < 1.3
    assert 7.0 < max(thickness) <= 8.0
    gaps = np.array([(grid.slice_distance - grid.thickness) / grid.thickness for grid in grids if grid.by_slice])
    assert 0 <= gaps.min() < 0.05
    assert 0.25 < gaps.max() <= 0.3 + 1e-9
    for grid in grids:
        assert grid.by_slice or grid.slice_distance == grid.thickness
        assert grid.geometry.spacing == (grid.pixel, grid.pixel, grid.slice_distance)


def test_without_faults_the_person_is_the_same(head: LabelMap) -> None:
    """Scans without a fault of their own don't differ where both extractions keep them."""
    compared = 0
    for seed in range(12):
        usual, clean = simulate_head(head, seed), simulate_head(head, seed, faults=0)
        assert clean.faults == HeadFaults()
        assert set(clean.scan_faults.values()) == {ScanFaults()}
        assert (usual.geometry, usual.sequences) == (clean.geometry, clean.sequences)
        both = usual.brain.array & clean.brain.array
        for modality, faults in usual.scan_faults.items():
            same = np.array_equal(usual.scans[modality].array[both], clean.scans[modality].array[both])
            assert same == (faults == ScanFaults())
            compared += same
        if usual.faults == HeadFaults():
            np.testing.assert_array_equal(usual.brain.array, clean.brain.array)
    assert compared > 3


@pytest.mark.parametrize("skull", [False, True])
def test_a_field_of_view_that_cuts_the_brain_loses_what_lies_beyond_it(head: LabelMap, skull: bool) -> None:
    cut = 0
    for seed in range(40):
        usual = simulate_head(head, seed, skull, modalities=("T2",))
        if not usual.faults.cut or usual.faults.leftovers or usual.faults.bites:
            continue
        clean = simulate_head(head, seed, skull, modalities=("T2",), faults=0)
        lost = clean.brain.array & ~usual.brain.array
        assert not (usual.brain.array & ~clean.brain.array).any()
        assert not usual.scans["T2"].array[lost].any()
        cut += bool(lost.any())
    assert cut > 1


def test_sides_are_swapped_in_some_people(head: LabelMap) -> None:
    """The left side's numbers stay on the left side of the person, mirrored or not."""
    for seed in range(4):
        numbers = draw_anatomy(head, True, np.random.default_rng(seed)).numbers
        left, right = (np.mean(np.nonzero(numbers == number)[2]) for number in WHITE)
        assert left > right


def test_weights_of_a_profile_keep_the_mean_and_leave_gaps() -> None:
    weights = profile_weights(40, spacing=5, thickness=3, blur=0.05)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert weights.shape == (8, 40)
    np.testing.assert_allclose(weights @ np.full(40, 7.0), 7)
    # A plane in a gap isn't seen by anyone; one in a slice by that one alone.
    assert weights[:, 5].max() < 1e-6
    np.testing.assert_allclose(weights[:, 7], [0, 1 / 3, 0, 0, 0, 0, 0, 0], atol=1e-6)
    # A ramp is measured at the centres of the slices.
    np.testing.assert_allclose(weights @ np.arange(40.0), 2 + 5 * np.arange(8), atol=1e-6)


def test_volumes_are_sampled_axis_by_axis() -> None:
    volume = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    weights = [linear_weights(2 * size - 1, 2, size) for size in volume.shape]
    expected = ndimage.map_coordinates(
        volume, np.stack(np.meshgrid(*(np.arange(2 * size - 1) / 2 for size in volume.shape), indexing="ij")), order=1
    )
    np.testing.assert_allclose(sampled(volume, weights), expected, atol=1e-5)


def test_a_dataset_is_written_in_the_raw_layout(label_maps: Path, tmp_path: Path) -> None:
    folder = write_simulated_people(label_maps, tmp_path / "raw", 7, "Simulated", people=SimulatedPeople(3, seed=4))
    dataset = load_dataset(folder)
    assert dataset.cases("Tr") == ["simulated_000", "simulated_001", "simulated_002"]
    assert [facts["label_map"] for facts in dataset.content["cases"].values()] == ["first", "second", "first"]
    for channel, modality in enumerate(MODALITIES):
        stored = read_volume(folder / "imagesTr" / f"simulated_002_{channel:04d}.nii.gz", dtype=None)
        expected = simulate_head(read_label_map(label_maps / "first.nii.gz"), (4, 2)).scans[modality]
        np.testing.assert_array_equal(stored.array, expected.array)
        assert not stored.geometry.differences(expected.geometry)


def test_a_label_map_is_read_in_any_orientation(label_maps: Path, head: LabelMap, tmp_path: Path) -> None:
    image = sitk.DICOMOrient(Volume(head.numbers, head.geometry).to_image(), "SAR")
    turned = Volume.from_image(image)
    write_volume(turned.array, turned.geometry, tmp_path / "turned.nii.gz")
    np.testing.assert_array_equal(read_label_map(tmp_path / "turned.nii.gz").numbers, head.numbers)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda numbers: np.where(numbers == SKIN, 999, numbers), "999"),
        (lambda numbers: np.where(numbers == SKIN, numbers, 0), "hardly any brain"),
    ],
)
def test_what_is_no_label_map_is_refused(head: LabelMap, tmp_path: Path, change, told: str) -> None:
    write_volume(change(head.numbers).astype(np.int16), head.geometry, tmp_path / "odd.nii.gz")
    with pytest.raises(MMCCDError, match=rf"odd\.nii\.gz.*{told}"):
        read_label_map(tmp_path / "odd.nii.gz")


def test_voxels_that_are_not_isotropic_are_refused(head: LabelMap, tmp_path: Path) -> None:
    stretched = Geometry(GEOMETRY.size, (2.0, 2.0, 3.0), GEOMETRY.origin, GEOMETRY.direction)
    write_volume(head.numbers, stretched, tmp_path / "odd.nii.gz")
    with pytest.raises(MMCCDError, match="2 x 2 x 3 mm"):
        read_label_map(tmp_path / "odd.nii.gz")


def test_a_folder_without_label_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MMCCDError, match="holds no label maps"):
        find_label_maps(tmp_path)


@pytest.mark.real_data
def test_real_label_maps_hold_known_numbers_only(real_data: Path) -> None:
    """By the list of numbers that comes with them, and two of the maps themselves."""
    folder = real_data / "label_maps"
    listed = np.load(folder / "priors" / "generation_labels.npy", allow_pickle=False)
    assert set(listed.tolist()) == set(STRUCTURES)
    for path in find_label_maps(folder)[:2]:
        assert len(np.unique(read_label_map(path).numbers)) > 45
