"""The engine against a loop that takes one strip after the other, and what it must not depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmccd_auto.errors import MMCCDError
from mmccd_auto.inference.engine import SliceMaps, anomaly_maps
from mmccd_auto.inference.settings import InferenceSettings, make_settings
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
    return make_settings(tiny_plan, batch_size=7)


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
                    slice_key = combine_keys("case", index, top, left, settings.seed)
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
    maps = anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH)
    assert_same(maps, expected)


def test_tiles_are_summed_before_dividing(cycle, settings):
    image, brain = make_slices((48, 32), 2)
    settings = replace(settings, strip_stride=8)
    expected = brute_force(cycle, image, brain, settings, [(0, 0), (16, 0)])
    assert_same(anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH), expected)


def test_the_batch_size_does_not_matter(cycle, settings):
    image, brain = make_slices((40, 32))
    first, *others = (
        anomaly_maps(cycle, image, brain, replace(settings, batch_size=size), "case", CPU, PATCH) for size in (1, 7, 32)
    )
    for maps in others:
        assert_same(maps, {name: getattr(first, name) for name in NAMES})
        assert maps.network_evaluations == first.network_evaluations


def test_a_slice_alone_gives_what_it_gives_among_others(cycle, settings):
    image, brain = make_slices()
    together = anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH)
    alone = anomaly_maps(cycle, image[1:2], brain[1:2], settings, "case", CPU, PATCH, slice_indices=[1])
    assert_same(alone, {name: getattr(together, name)[1:2] for name in NAMES})
    elsewhere = anomaly_maps(cycle, image[1:2], brain[1:2], settings, "case", CPU, PATCH, slice_indices=[2])
    assert not np.allclose(elsewhere.squared, alone.squared, rtol=1e-3)


def test_strips_without_brain_are_skipped_and_counted_out(cycle, settings):
    image, brain = make_slices()
    brain[:] = False
    brain[0, 10:12, 10:12] = True
    maps = anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH)
    # Strips of 8 px every 4 px that touch pixels 10 and 11: starts 4 and 8, in two directions; 2 steps and the way back.
    assert maps.network_evaluations == 2 * 2 * 3
    assert (maps.coverage[brain] == 4).all()
    assert np.count_nonzero(maps.squared) == 4
    nothing = anomaly_maps(cycle, image, np.zeros_like(brain), settings, "case", CPU, PATCH)
    assert nothing.network_evaluations == 0
    assert not nothing.squared.any()


def test_a_cycle_without_masks_scores_whole_slices(tiny_plan, random_cycle, settings):
    cycle = random_cycle(tiny_plan, "cyclic_unet")
    image, brain = make_slices()
    x = torch.from_numpy(image)[:, None]
    with torch.inference_mode():
        made = cycle.backward_network(cycle.forward_network(x))[:, 0].numpy()
    maps = anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH)
    error = image - made
    expected = {"squared": error**2, "signed": error, "cycle": made, "coverage": np.ones_like(error)}
    assert_same(maps, {name: np.where(brain, values, 0) for name, values in expected.items()})
    assert maps.network_evaluations == 2 * 2


def test_out_of_memory_halves_the_batch_and_changes_nothing(cycle, settings, monkeypatch):
    image, brain = make_slices()
    expected = anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH)
    real, sizes = cycle.reconstruct, []

    def small_memory(x, *arguments):
        sizes.append(len(x))
        if len(x) > 5:
            raise torch.cuda.OutOfMemoryError
        return real(x, *arguments)

    monkeypatch.setattr(cycle, "reconstruct", small_memory)
    maps = anomaly_maps(cycle, image, brain, replace(settings, batch_size=32), "case", CPU, PATCH)
    assert sizes[:4] == [26, 13, 6, 3]
    assert max(sizes[4:]) == 3
    assert sum(sizes[3:]) == 26
    assert_same(maps, {name: getattr(expected, name) for name in NAMES})


def test_no_memory_for_one_slice_is_one_sentence_and_other_errors_stay_what_they_are(cycle, settings, monkeypatch):
    image, brain = make_slices()

    def fail(error):
        def reconstruct(*_):
            raise error

        monkeypatch.setattr(cycle, "reconstruct", reconstruct)

    fail(torch.cuda.OutOfMemoryError())
    with pytest.raises(MMCCDError, match="does not fit"):
        anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH)
    fail(RuntimeError("a defect"))
    with pytest.raises(RuntimeError, match="a defect"):
        anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH)


def test_networks_that_give_nan_are_an_error(cycle, settings):
    image, brain = make_slices()
    with torch.no_grad():
        next(cycle.backward_network.parameters()).fill_(float("nan"))
    with pytest.raises(MMCCDError, match="not finite"):
        anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH)


def test_an_unknown_precision_is_refused(cycle, settings):
    image, brain = make_slices()
    with pytest.raises(MMCCDError, match="float16"):
        anomaly_maps(cycle, image, brain, settings, "case", CPU, PATCH, precision="float16")
