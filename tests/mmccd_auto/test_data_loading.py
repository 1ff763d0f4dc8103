"""Batches: paired, reproducible from the seed and the iteration alone, and told apart from faults."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from batchgenerators.transforms import color_transforms

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.preprocessing.slices import load_case_records, read_slice
from mmccd_auto.training.data.augmentation import default_augmentation, shifted
from mmccd_auto.training.data.data_loading import (
    BatchLoader,
    SliceStore,
    TrainingSlice,
    crop,
    find_healthy_slices,
    open_batches,
)

PATCH = (32, 32)
CYCLE = ("FLAIR", "T1")


def healthy_slices(folder: Path, modalities: tuple[str, str] = CYCLE) -> list[TrainingSlice]:
    records = load_case_records(folder)
    return find_healthy_slices(folder, records, list(records), modalities)


def make_loader(folder: Path, seed: int = 3, first: int = 0, processes: int = 0, augmented: bool = True) -> BatchLoader:
    transform = default_augmentation(PATCH, "axial") if augmented else None
    return BatchLoader(SliceStore(healthy_slices(folder)), PATCH, 4, seed, transform, first, processes)


def geometry_only(slice_axis: str) -> Callable:
    """The default augmentation without what changes intensities."""
    augmentation = default_augmentation(PATCH, slice_axis)
    augmentation.transforms = [one for one in augmentation.transforms if type(one).__module__ != color_transforms.__name__]
    return augmentation


def test_channels_follow_the_cycle_not_the_file(tmp_path: Path, write_preprocessed: Callable) -> None:
    folder = write_preprocessed(tmp_path, {"a": "a"}, modalities=("FLAIR", "T1"))
    store, reversed_store = SliceStore(healthy_slices(folder)), SliceStore(healthy_slices(folder, ("T1", "FLAIR")))
    image = read_slice(store.slices[2].file)[0]
    np.testing.assert_array_equal(store[2], image)
    np.testing.assert_array_equal(reversed_store[2], image[::-1])


def test_abnormal_incomplete_and_unknown_cases_are_left_out(tmp_path: Path, write_preprocessed: Callable) -> None:
    write_preprocessed(tmp_path, {"healthy": "h"})
    write_preprocessed(tmp_path, {"abnormal": "a"}, abnormal=True)
    write_preprocessed(tmp_path, {"without_t1": "w"}, modalities=("FLAIR",))
    found = find_healthy_slices(
        tmp_path, load_case_records(tmp_path), ["abnormal", "absent", "healthy", "without_t1"], CYCLE
    )
    assert {one.case for one in found} == {"healthy"}
    assert {one.subject for one in found} == {"h"}
    assert len(found) == 6


def test_a_batch_depends_on_seed_and_iteration_only(preprocessed: Path) -> None:
    in_order = list(islice(make_loader(preprocessed), 6))
    np.testing.assert_array_equal(make_loader(preprocessed, first=4).batch(4)["data"], in_order[4]["data"])
    np.testing.assert_array_equal(next(make_loader(preprocessed, first=5))["data"], in_order[5]["data"])
    different = [make_loader(preprocessed, seed=4).batch(0), *in_order[1:]]
    assert not any(np.array_equal(in_order[0]["data"], other["data"]) for other in different)


@pytest.mark.parametrize("processes", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(preprocessed: Path, processes: int) -> None:
    with open_batches(make_loader(preprocessed, first=2), 0) as batches:
        expected = list(islice(batches, 5))
    with open_batches(make_loader(preprocessed, first=2, processes=processes), processes) as batches:
        found = list(islice(batches, 5))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one["data"], other["data"])
        np.testing.assert_array_equal(one["seg"], other["seg"])
    assert not multiprocessing.active_children()


def test_workers_that_are_spawned_give_the_same_batches(preprocessed: Path) -> None:
    """As on macOS and Windows, where a worker gets the loader as bytes."""
    before = multiprocessing.get_start_method()
    expected = make_loader(preprocessed).batch(0)["data"]
    multiprocessing.set_start_method("spawn", force=True)
    try:
        with open_batches(make_loader(preprocessed, processes=1), 1) as batches:
            found = next(batches)["data"]
    finally:
        multiprocessing.set_start_method(before, force=True)
    np.testing.assert_array_equal(found, expected)


def test_slices_too_large_for_memory_are_read_from_disk(preprocessed: Path) -> None:
    slices = healthy_slices(preprocessed)
    held, read = SliceStore(slices), SliceStore(slices, memory_limit=1000)
    assert (held.in_memory, read.in_memory) == (True, False)
    one, other = (BatchLoader(store, PATCH, 4, 0).batch(7) for store in (held, read))
    np.testing.assert_array_equal(one["data"], other["data"])


def test_numpys_global_generator_is_left_as_it_was(preprocessed: Path) -> None:
    np.random.seed(5)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    with open_batches(make_loader(preprocessed), 0) as batches:
        first = next(batches)["data"]
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
    np.testing.assert_array_equal(make_loader(preprocessed).batch(0)["data"], first)


@pytest.mark.parametrize("slice_axis", ["axial", "coronal", "sagittal"])
def test_both_modalities_get_the_same_geometry(slice_axis: str) -> None:
    rows, columns = np.mgrid[:32, :32]
    disc = np.hypot(rows - 16, columns - 12) < 9
    image = np.where(disc, np.random.default_rng(0).normal(size=(32, 32)), -3).astype(np.float32)
    data = np.tile(image, (40, 2, 1, 1))
    np.random.seed(0)  # noqa: NPY002
    result = geometry_only(slice_axis)(data=data, seg=(data != -3).astype(np.float32))
    np.testing.assert_array_equal(result["data"][:, 0], result["data"][:, 1])
    changed = [not np.array_equal(sample[0], image) for sample in result["data"]]
    assert 10 < sum(changed) <= 40


@pytest.mark.parametrize("slice_axis", ["axial", "coronal", "sagittal"])
def test_background_stays_exact_and_brains_stay_whole(preprocessed: Path, slice_axis: str) -> None:
    loader = BatchLoader(SliceStore(healthy_slices(preprocessed)), PATCH, 32, 1, default_augmentation(PATCH, slice_axis))
    plain = BatchLoader(SliceStore(healthy_slices(preprocessed)), PATCH, 32, 1).batch(0)
    batch = loader.batch(0)
    assert batch["data"].shape == (32, 2, *PATCH)
    assert batch["data"].dtype == np.float32
    assert (batch["data"][~batch["seg"]] == -3).all()
    assert (batch["data"][batch["seg"]] != -3).mean() > 0.99
    np.testing.assert_array_equal(batch["seg"][:, 0], batch["seg"][:, 1])
    areas, plain_areas = batch["seg"].sum(axis=(1, 2, 3)), plain["seg"].sum(axis=(1, 2, 3))
    assert (np.abs(areas / plain_areas - 1) < 0.2).all()
    assert not np.array_equal(batch["seg"], plain["seg"])


@pytest.mark.parametrize(("slice_axis", "has_sides"), [("axial", True), ("coronal", True), ("sagittal", False)])
def test_only_left_and_right_are_mirrored(slice_axis: str, has_sides: bool) -> None:
    data = np.full((60, 2, 32, 32), -3, dtype=np.float32)
    data[:, :, 2:14, 2:14] = 3.0
    data[:, :, 18:30, 2:30] = 0.0
    np.random.seed(0)  # noqa: NPY002
    result = geometry_only(slice_axis)(data=data, seg=(data != -3).astype(np.float32))["data"][:, 0]
    assert (result[:, :16].mean(axis=(1, 2)) != result[:, 16:].mean(axis=(1, 2))).all()
    bright_above = (result[:, :16] > 2).sum(axis=(1, 2)) > (result[:, 16:] > 2).sum(axis=(1, 2))
    bright_left = (result[:, :, :16] > 2).sum(axis=(1, 2)) > (result[:, :, 16:] > 2).sum(axis=(1, 2))
    assert bright_above.all()
    assert (0.25 < bright_left.mean() < 0.75) if has_sides else bright_left.all()


@pytest.mark.parametrize("by", [(0, 0), (2, -3), (-5, 5), (1, 0)])
def test_shift_against_a_loop(by: tuple[int, int]) -> None:
    image = np.random.default_rng(0).normal(size=(2, 5, 6))
    expected = np.full_like(image, -3)
    for row in range(5):
        for column in range(6):
            source = (row - by[0], column - by[1])
            if 0 <= source[0] < 5 and 0 <= source[1] < 6:
                expected[:, row, column] = image[:, source[0], source[1]]
    np.testing.assert_array_equal(shifted(image, list(by), -3), expected)


def test_larger_slices_are_cropped_everywhere_and_smaller_ones_filled_up(
    tmp_path: Path, write_preprocessed: Callable
) -> None:
    image = np.arange(2 * 7 * 6, dtype=np.float32).reshape(2, 7, 6)
    np.testing.assert_array_equal(crop(image, (3, 6)), image[:, 2:5])
    np.testing.assert_array_equal(crop(image, (7, 4), (0.0, 0.0)), image[:, :, :4])
    np.testing.assert_array_equal(crop(image, (7, 4), (1.0, 1.0)), image[:, :, 2:])
    filled = crop(image, (9, 6))
    np.testing.assert_array_equal(filled[:, 1:8], image)
    assert (filled[:, [0, 8]] == -3).all()
    folder = write_preprocessed(tmp_path, {"large": "large"}, edge=40)
    store = SliceStore(healthy_slices(folder))
    crops = [sample for index in range(12) for sample in BatchLoader(store, PATCH, 4, 0).batch(index)["data"]]
    windows = {
        (row, column)
        for one in crops
        for row in range(9)
        for column in range(9)
        if any(np.array_equal(store[k][:, row : row + 32, column : column + 32], one) for k in range(len(store)))
    }
    assert len(windows) > 20
    assert {0, 8} <= {row for row, _ in windows}


@pytest.mark.parametrize("processes", [0, 1])
def test_a_damaged_slice_is_named(preprocessed: Path, processes: int) -> None:
    slices = healthy_slices(preprocessed)
    loader = BatchLoader(SliceStore(slices, memory_limit=0), PATCH, 4, 0, None, 0, processes)
    for one in slices:
        one.file.write_bytes(one.file.read_bytes()[:50])
    with (
        pytest.raises(MMCCDError, match=r"slice_\d+\.npz can't be read"),
        open_batches(loader, processes) as batches,
    ):
        next(batches)
    assert not multiprocessing.active_children()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_killed_worker_is_told(preprocessed: Path) -> None:
    with open_batches(make_loader(preprocessed, processes=1), 1) as batches:
        next(batches)
        multiprocessing.active_children()[0].kill()
        with pytest.raises(MMCCDError, match="a worker that loads training slices ended, probably because memory ran out"):
            list(islice(batches, 10_000))
