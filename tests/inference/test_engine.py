"""The engine against a loop that takes one strip after the other, and what it must not depend on."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.failures import Defect
from mmccd_auto.core.processes.streams import Settled
from mmccd_auto.inference.maps.engine import MapMaker, SliceMaps, SliceWork, anomaly_maps, stream_maps
from mmccd_auto.inference.maps.settings import InferenceSettings, make_settings
from mmccd_auto.inference.options import MapOptions
from mmccd_auto.model.cycle import Cycle
from mmccd_auto.model.noise import combine_keys

CPU = torch.device("cpu")
PATCH = (32, 32)
NAMES = ("squared", "signed", "cycle", "coverage")


@pytest.fixture
def cycle(tiny_plan, random_cycle) -> Cycle:
    return random_cycle(tiny_plan)


@pytest.fixture
def settings(tiny_plan) -> InferenceSettings:
    return make_settings(tiny_plan, options=MapOptions(batch_size=7))


def make_slices(shape: tuple[int, int] = PATCH, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Slices with a brain that ends before the border and a slice without any."""
    generator = np.random.default_rng(5)
    brain = np.zeros((count, *shape), dtype=bool)
    for index in range(count - 1):
        brain[index, 4 + index : shape[0] - 7, 9 : shape[1] - 3 - 5 * index] = True
    image = np.where(brain, generator.normal(0, 1.5, brain.shape), -3).astype(np.float32)
    return image, brain


def brute_force(
    cycle: Cycle, image: np.ndarray, brain: np.ndarray, settings: InferenceSettings, corners: list[tuple[int, int]]
) -> dict[str, np.ndarray]:
    """a(p) by the definition, one strip after the other and every strip, also those without brain."""
    sums = {name: np.zeros(image.shape) for name in NAMES}
    width, stride = settings.strip_width, settings.strip_stride
    for index in range(len(image)):
        for top, left in corners:
            tile = np.s_[index, top : top + 32, left : left + 32]
            for axis in (0, 1):
                for start in range(-32, 32):
                    first, last = max(start, 0), min(start + width, 32)
                    if start % stride or last <= first or (settings.coverage == "published" and start < 0):
                        continue
                    hidden = np.zeros(PATCH)
                    hidden[(slice(first, last), slice(None))[:: 1 - 2 * axis]] = 1
                    slice_key = combine_keys(index, top, left, settings.seed)
                    x = torch.from_numpy(image[tile])[None, None]
                    with torch.inference_mode():
                        made = (
                            cycle.reconstruct(
                                x,
                                torch.from_numpy(1 - hidden).float()[None, None],
                                settings.sampling,
                                torch.tensor([combine_keys(slice_key, axis, start)]),
                                torch.tensor([slice_key]),
                            )[0, 0]
                            .double()
                            .numpy()
                        )
                    sums["squared"][tile] += hidden * (image[tile] - made) ** 2
                    sums["signed"][tile] += hidden * (image[tile] - made)
                    sums["cycle"][tile] += hidden * made
                    sums["coverage"][tile] += hidden
    counted = np.where(sums["coverage"] > 0, sums["coverage"], 1)
    return {name: np.where(brain, total if name == "coverage" else total / counted, 0) for name, total in sums.items()}


def assert_same(maps: SliceMaps, expected: dict[str, np.ndarray], tolerance: float = 1e-4) -> None:
    for name, values in expected.items():
        found = getattr(maps, name)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values, rtol=0, atol=tolerance * np.abs(values).max(), err_msg=name)


@pytest.mark.parametrize(("coverage", "stride"), [("even", 4), ("even", 3), ("published", 4)])
def test_aggregation_equals_a_brute_force_loop(cycle, settings, coverage, stride):
    image, brain = make_slices()
    settings = replace(settings, coverage=coverage, strip_stride=stride)
    expected = brute_force(cycle, image, brain, settings, [(0, 0)])
    assert expected["squared"].max() > 0.1
    maps = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    assert_same(maps, expected)


def test_strips_hidden_together_are_one_pass_in_which_both_count(cycle, settings):
    """Against passes written out: strips of 8 px side by side cover 32 px; those of one pass are 16 px apart."""
    image, brain = make_slices()
    brain[:2] = True
    settings = replace(settings, strip_stride=8, strips_per_pass=2)
    expected = {name: np.zeros(image.shape) for name in NAMES}
    for index, axis, first in [(index, axis, first) for index in (0, 1) for axis in (0, 1) for first in (0, 8)]:
        hidden = np.zeros(PATCH)
        for start in (first, first + 16):
            hidden[(slice(start, start + 8), slice(None))[:: 1 - 2 * axis]] = 1
        slice_key = combine_keys(index, 0, 0, settings.seed)
        keys = torch.tensor([combine_keys(slice_key, axis, first, axis, first + 16)]), torch.tensor([slice_key])
        x, keep = torch.from_numpy(image[index])[None, None], torch.from_numpy(1 - hidden).float()[None, None]
        with torch.inference_mode():
            made = cycle.reconstruct(x, keep, settings.sampling, *keys)[0, 0].numpy()
        error = image[index] - made
        for name, values in zip(NAMES, (error**2, error, made, np.full(PATCH, 2.0)), strict=True):
            expected[name][index] += hidden * values / 2
    maps = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    assert_same(maps, expected)
    assert maps.network_evaluations == 2 * 4 * 3


def test_a_masked_cycle_can_hide_nothing(cycle, settings):
    image, brain = make_slices()
    settings = replace(settings, strips_per_pass=0, sampling=replace(settings.sampling, steps=1))
    maps = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    assert maps.network_evaluations == 2 * 2
    keys = torch.tensor([combine_keys(combine_keys(0, 0, 0, settings.seed))])
    with torch.inference_mode():
        made = cycle.reconstruct(torch.from_numpy(image[:1, None]), torch.ones(1, 1, *PATCH), settings.sampling, keys, keys)
    error = np.where(brain[0], image[0] - made[0, 0].numpy(), 0)
    assert_same(maps.__class__(*(getattr(maps, name)[:1] for name in NAMES), 0), {"signed": error[None]})


def test_tiles_are_summed_before_dividing(cycle, settings):
    image, brain = make_slices((48, 32), 2)
    settings = replace(settings, strip_stride=8)
    expected = brute_force(cycle, image, brain, settings, [(0, 0), (16, 0)])
    assert_same(anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case"), expected)


def test_the_batch_size_does_not_matter(cycle, settings):
    image, brain = make_slices((40, 32))
    first, *others = (
        anomaly_maps(MapMaker(cycle, replace(settings, batch_size=size), CPU, PATCH), image, brain, "case")
        for size in (1, 7, 32)
    )
    for maps in others:
        assert_same(maps, {name: getattr(first, name) for name in NAMES})
        assert maps.network_evaluations == first.network_evaluations


def test_a_slice_alone_gives_what_it_gives_among_others(cycle, settings):
    image, brain = make_slices()
    together = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    alone = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image[1:2], brain[1:2], "case", slice_indices=[1])
    assert_same(alone, {name: getattr(together, name)[1:2] for name in NAMES})
    elsewhere = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image[1:2], brain[1:2], "case", slice_indices=[2])
    assert not np.allclose(elsewhere.squared, alone.squared, rtol=1e-3)


def test_a_map_depends_on_the_scan_and_not_on_its_name_the_batch_or_its_neighbours(cycle, settings):
    image, brain = make_slices()
    first = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    other_name = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "another name")
    other = SliceWork("other", image[::-1].copy(), brain[::-1].copy(), (8, 9, 10))
    works = [other, SliceWork("case of the same scan", image, brain, (0, 1, 2)), other]
    beside = list(stream_maps(MapMaker(cycle, settings, CPU, PATCH), works))[1]
    for name in NAMES:
        np.testing.assert_array_equal(getattr(other_name, name), getattr(first, name))
        np.testing.assert_array_equal(getattr(beside, name), getattr(first, name))
    # Other batch sizes take other kernels, whose sums are rounded otherwise.
    other_batch = anomaly_maps(MapMaker(cycle, replace(settings, batch_size=19), CPU, PATCH), image, brain, "another name")
    assert_same(other_batch, {name: getattr(first, name) for name in NAMES}, tolerance=1e-6)
    other_seed = anomaly_maps(MapMaker(cycle, replace(settings, seed=settings.seed + 1), CPU, PATCH), image, brain, "case")
    assert not np.allclose(other_seed.squared, first.squared, rtol=1e-2)


def test_strips_without_brain_are_skipped_and_counted_out(cycle, settings):
    image, brain = make_slices()
    brain[:] = False
    brain[0, 10:12, 10:12] = True
    maps = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    # Strips of 8 px every 4 px that touch pixels 10 and 11: starts 4 and 8, in two directions; 2 steps and the way back.
    assert maps.network_evaluations == 2 * 2 * 3
    assert (maps.coverage[brain] == 4).all()
    assert np.count_nonzero(maps.squared) == 4
    nothing = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, np.zeros_like(brain), "case")
    assert nothing.network_evaluations == 0
    assert not nothing.squared.any()


def test_a_cycle_without_masks_scores_whole_slices(tiny_plan, random_cycle, settings):
    cycle = random_cycle(tiny_plan, "cyclic_unet")
    image, brain = make_slices()
    x = torch.from_numpy(image)[:, None]
    with torch.inference_mode():
        made = cycle.backward_network(cycle.forward_network(x))[:, 0].numpy()
    maps = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    error = image - made
    expected = {"squared": error**2, "signed": error, "cycle": made, "coverage": np.ones_like(error)}
    assert_same(maps, {name: np.where(brain, values, 0) for name, values in expected.items()})
    assert maps.network_evaluations == 2 * 2


def test_out_of_memory_halves_the_batch_and_changes_nothing(cycle, settings, monkeypatch):
    image, brain = make_slices()
    expected = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    real, sizes = cycle.reconstruct, []

    def small_memory(x, *arguments):
        sizes.append(len(x))
        if len(x) > 5:
            raise torch.cuda.OutOfMemoryError
        return real(x, *arguments)

    monkeypatch.setattr(cycle, "reconstruct", small_memory)
    maps = anomaly_maps(MapMaker(cycle, replace(settings, batch_size=32), CPU, PATCH), image, brain, "case")
    assert sizes[:4] == [26, 13, 6, 3]
    assert max(sizes[4:]) == 3
    assert sum(sizes[3:]) == 26
    assert_same(maps, {name: getattr(expected, name) for name in NAMES})


def test_no_memory_for_one_slice_is_one_sentence_and_other_errors_are_told_as_defects(cycle, settings, monkeypatch):
    image, brain = make_slices()

    def fail(error):
        def reconstruct(*_):
            raise error

        monkeypatch.setattr(cycle, "reconstruct", reconstruct)

    fail(torch.cuda.OutOfMemoryError())
    with pytest.raises(MMCCDError, match="does not fit"):
        anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    fail(RuntimeError("a defect"))
    with pytest.raises(Defect, match=r"unexpected RuntimeError in mmccd_auto\.inference") as told:
        anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")
    assert "a defect" in told.value.details
    fail(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
    with pytest.raises(MemoryError):
        anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")


def test_an_error_of_one_scan_leaves_the_others_their_maps(cycle, settings, monkeypatch):
    (image, brain), real = make_slices(), cycle.reconstruct
    works = [SliceWork(case, image, brain, tuple(range(len(image)))) for case in "abc"]
    calls = []

    def reconstruct(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise KeyError("a defect")
        return real(*arguments)

    expected = anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "alone")
    monkeypatch.setattr(cycle, "reconstruct", reconstruct)
    first, *others = stream_maps(MapMaker(cycle, settings, CPU, PATCH, "float32"), works)
    assert "unexpected KeyError" in str(first.outcome)
    for maps in others:
        np.testing.assert_array_equal(maps.squared, expected.squared)


def test_networks_that_give_nan_are_an_error(cycle, settings):
    image, brain = make_slices()
    with torch.no_grad():
        next(cycle.backward_network.parameters()).fill_(float("nan"))
    with pytest.raises(MMCCDError, match="not finite"):
        anomaly_maps(MapMaker(cycle, settings, CPU, PATCH), image, brain, "case")


def test_an_unknown_precision_is_refused(cycle, settings):
    image, brain = make_slices()
    with pytest.raises(MMCCDError, match="float16"):
        anomaly_maps(MapMaker(cycle, settings, CPU, PATCH, "float16"), image, brain, "case")


def scans(count: int) -> list[SliceWork]:
    """Different scans; the third has no brain."""
    found = []
    for number in range(count):
        image, brain = make_slices()
        image = np.where(brain, image + number, -3).astype(np.float32)
        found.append(SliceWork(f"case {number}", image, brain & (number != 2), (4, 5, 6)))
    return found


@pytest.mark.parametrize("batch_size", [5, 32, 1000])
def test_scans_in_one_queue_give_what_each_gives_alone(cycle, settings, batch_size):
    works = scans(4)
    stream = stream_maps(MapMaker(cycle, replace(settings, batch_size=batch_size), CPU, PATCH), works, across_scans=True)
    for work, maps in zip(works, stream, strict=True):
        alone = anomaly_maps(
            MapMaker(cycle, settings, CPU, PATCH), work.image, work.brain, work.case, slice_indices=work.indices
        )
        assert_same(maps, {name: getattr(alone, name) for name in NAMES})
        assert maps.network_evaluations == alone.network_evaluations


def test_batches_are_filled_across_scans_and_scans_are_asked_for_when_needed(cycle, settings, monkeypatch):
    real, sizes, asked = cycle.reconstruct, [], []
    monkeypatch.setattr(cycle, "reconstruct", lambda x, *others: (sizes.append(len(x)), real(x, *others))[1])

    def asking():
        for work in scans(12):
            asked.append(work.case)
            yield work

    stream = stream_maps(MapMaker(cycle, replace(settings, batch_size=40), CPU, PATCH), asking(), across_scans=True)
    for done, maps in enumerate(stream, start=1):
        # One that is worked on, one that fills its last batch, and the empty one.
        assert len(asked) <= done + 3
        assert done == 3 or maps.network_evaluations == 26 * 3
    assert sizes == [40] * (11 * 26 // 40) + [11 * 26 % 40]


def test_on_a_cpu_a_scan_among_others_is_the_same_to_the_last_bit(cycle, settings):
    works = scans(3)
    for work, maps in zip(works, stream_maps(MapMaker(cycle, settings, CPU, PATCH), works), strict=True):
        alone = anomaly_maps(
            MapMaker(cycle, settings, CPU, PATCH), work.image, work.brain, work.case, slice_indices=work.indices
        )
        np.testing.assert_array_equal(maps.squared, alone.squared)


@pytest.mark.parametrize("across_scans", [False, True])
def test_a_scan_that_fails_does_not_stop_the_others(cycle, settings, across_scans):
    works = scans(5)
    works[1].image[0, 10, 15] = np.inf
    refused = Settled(MMCCDError("unreadable"))
    stream = stream_maps(MapMaker(cycle, settings, CPU, PATCH), [*works[:4], refused, works[4]], across_scans=across_scans)
    found = list(stream)
    assert [isinstance(one, Settled) for one in found] == [False, True, False, False, True, False]
    assert "case 1" in str(found[1].outcome)
    assert found[4] is refused
    alone = anomaly_maps(
        MapMaker(cycle, settings, CPU, PATCH), works[4].image, works[4].brain, works[4].case, slice_indices=works[4].indices
    )
    assert_same(found[5], {name: getattr(alone, name) for name in NAMES})


def test_without_memory_for_one_slice_every_scan_says_so(cycle, settings, monkeypatch):
    def fail(*_):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(cycle, "reconstruct", fail)
    found = list(stream_maps(MapMaker(cycle, settings, CPU, PATCH), scans(3)))
    for number in (0, 1):
        assert f"case {number}: even one slice does not fit" in str(found[number].outcome)
    assert not found[2].squared.any()


@pytest.mark.parametrize("kind", ["refused", "without brain"])
def test_scans_that_give_no_work_do_not_pile_up_behind_one_that_does(cycle, settings, kind):
    first, _, empty = scans(3)
    asked = []

    def asking() -> Iterator[SliceWork | Settled]:
        for number in range(30):
            asked.append(number)
            yield first if number == 0 else empty if kind == "without brain" else Settled(MMCCDError("refused"))

    stream = stream_maps(MapMaker(cycle, replace(settings, batch_size=1000), CPU, PATCH), asking(), across_scans=True)
    maps = next(stream)
    assert maps.squared.any()
    assert len(asked) <= 3
    assert len(list(stream)) == 29


@pytest.mark.parametrize("across_scans", [False, True])
def test_a_scan_that_is_done_with_is_gone_while_the_next_one_is_worked_on(cycle, settings, monkeypatch, across_scans):
    alive, found = [], []
    real = cycle.reconstruct

    def counting(*arguments):
        found.append(sum(one() is not None for one in alive))
        return real(*arguments)

    def asking() -> Iterator[SliceWork]:
        for number in range(5):
            image, brain = make_slices()
            work = [SliceWork(f"case {number}", image, brain, (0, 1, 2))]
            alive.append(weakref.ref(work[0]))
            yield work.pop()

    monkeypatch.setattr(cycle, "reconstruct", counting)
    # 26 passes a scan: each batch is one scan.
    stream = stream_maps(MapMaker(cycle, replace(settings, batch_size=26), CPU, PATCH), asking(), across_scans=across_scans)
    assert len(list(stream)) == 5
    assert found == [1] * 5


def test_a_scan_that_failed_leaves_a_sentence_and_nothing_else(cycle, settings):
    alive = []

    def asking() -> Iterator[SliceWork]:
        for number in range(3):
            image, brain = make_slices()
            image[0, 10, 15] = np.inf
            alive.append(weakref.ref(image))
            yield SliceWork(f"case {number}", image, brain, (0, 1, 2))
            del image

    found = list(stream_maps(MapMaker(cycle, settings, CPU, PATCH), asking()))
    gc.collect()
    assert [one() is None for one in alive] == [True] * 3
    assert all(f"for case {number}" in str(one.outcome) for number, one in enumerate(found))


class FullWhenOpened(np.ndarray):
    """A brain whose look for slices fails, as where the memory is used up."""

    def any(self, *_, **__):
        raise MemoryError


class FullAtTheEnd(np.ndarray):
    """A brain that can't be combined with the maps."""

    def __and__(self, _):
        raise MemoryError


@pytest.mark.parametrize("across_scans", [False, True])
@pytest.mark.parametrize("brain", [FullWhenOpened, FullAtTheEnd])
def test_used_up_memory_settles_its_scan_and_the_others_go_on(cycle, settings, brain, across_scans):
    works = scans(3)
    works[1] = replace(works[1], brain=works[1].brain.view(brain))
    found = list(stream_maps(MapMaker(cycle, settings, CPU, PATCH), works, across_scans=across_scans))
    assert isinstance(found[1].outcome, MemoryError)
    alone = anomaly_maps(
        MapMaker(cycle, settings, CPU, PATCH), works[0].image, works[0].brain, works[0].case, slice_indices=works[0].indices
    )
    assert_same(found[0], {name: getattr(alone, name) for name in NAMES})
    assert not found[2].squared.any()


@pytest.fixture
def memory_for_slices(monkeypatch) -> Callable[[int], None]:
    """Lets scans be opened as on a GPU that has memory for the sums of so many slices at a time."""

    def limit(slices: int) -> None:
        real, taken = torch.zeros, []

        def zeros(shape, *arguments, **options):
            if not isinstance(shape, tuple) or len(shape) != 4 or shape[1] != 4:
                return real(shape, *arguments, **options)
            if sum(len(one()) for one in taken if one() is not None) + shape[0] > slices:
                raise torch.cuda.OutOfMemoryError
            sums = real(shape, *arguments, **options)
            taken.append(weakref.ref(sums))
            return sums

        monkeypatch.setattr(torch, "zeros", zeros)

    return limit


@pytest.mark.parametrize("slices", [3, 6])
def test_a_scan_for_which_the_gpu_has_no_memory_waits_for_those_before_it(cycle, settings, memory_for_slices, slices):
    works = scans(5)
    expected = list(stream_maps(MapMaker(cycle, settings, CPU, PATCH), works))
    memory_for_slices(slices)
    stream = stream_maps(MapMaker(cycle, replace(settings, batch_size=1000), CPU, PATCH), works, across_scans=True)
    for maps, one in zip(stream, expected, strict=True):
        assert_same(maps, {name: getattr(one, name) for name in NAMES})
        assert maps.network_evaluations == one.network_evaluations


@pytest.mark.parametrize("across_scans", [False, True])
def test_a_scan_that_is_too_large_for_the_gpu_is_one_sentence_and_the_others_go_on(
    cycle, settings, memory_for_slices, across_scans
):
    works = scans(4)
    image, brain = make_slices(count=7)
    works[1] = SliceWork("case 1", image, brain, tuple(range(7)))
    memory_for_slices(6)
    found = list(stream_maps(MapMaker(cycle, settings, CPU, PATCH), works, across_scans=across_scans))
    assert [isinstance(one, Settled) for one in found] == [False, True, False, False]
    assert isinstance(found[1].outcome, MMCCDError)
    assert "case 1: its slices do not fit into the free memory of cpu" in str(found[1].outcome)
    assert found[3].squared.any()


def test_an_error_closes_what_the_scans_come_from_before_it_gets_out(cycle, settings, monkeypatch):
    closed = []

    def asking() -> Iterator[SliceWork]:
        try:
            yield from scans(3)
        finally:
            closed.append(True)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cycle, "reconstruct", fail)
    with pytest.raises(KeyboardInterrupt) as held:
        next(stream_maps(MapMaker(cycle, settings, CPU, PATCH), asking()))
    assert held.value.__traceback__ is not None
    assert closed == [True]


def test_bfloat16_gives_nearly_the_same_maps(cycle, settings):
    image, brain = make_slices()
    exact, rough = (
        anomaly_maps(MapMaker(cycle, settings, CPU, PATCH, precision), image, brain, "case")
        for precision in ("float32", "bfloat16")
    )
    assert not np.array_equal(exact.signed, rough.signed)
    assert np.corrcoef(exact.signed[brain], rough.signed[brain])[0, 1] > 0.99
