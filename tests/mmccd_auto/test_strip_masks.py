"""Strips against brute force: pixel by pixel, strip by strip."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mmccd_auto.core.devices import sent_to
from mmccd_auto.model.strip_masks import (
    COLUMNS,
    ROWS,
    Strip,
    all_strips,
    group_strips,
    keep_mask,
    keep_mask_of_groups,
    random_strip_groups,
    random_strips,
    strip_starts,
)


def brute_force_keep(strip: Strip, shape: tuple[int, int], width: int) -> np.ndarray:
    keep = np.ones(shape, dtype=np.float32)
    for row in range(shape[0]):
        for column in range(shape[1]):
            position = row if strip.axis == ROWS else column
            if strip.start <= position < strip.start + width:
                keep[row, column] = 0
    return keep


@settings(max_examples=25, deadline=None)
@given(
    strips=st.lists(st.builds(Strip, st.sampled_from([ROWS, COLUMNS]), st.integers(-20, 20)), min_size=1, max_size=4),
    rows=st.integers(1, 18),
    columns=st.integers(1, 18),
    width=st.integers(1, 9),
)
def test_keep_mask_is_the_brute_force_mask(strips, rows, columns, width):
    keep = keep_mask(strips, (rows, columns), width)
    assert keep.shape == (len(strips), 1, rows, columns)
    assert keep.dtype == torch.float32
    for entry, strip in enumerate(strips):
        np.testing.assert_array_equal(keep[entry, 0].numpy(), brute_force_keep(strip, (rows, columns), width))


def test_published_grid_has_the_papers_128_masks():
    strips = all_strips((128, 128), width=16, stride=2, coverage="published")
    assert len(set(strips)) == len(strips) == 128
    for axis in (ROWS, COLUMNS):
        assert [strip.start for strip in strips if strip.axis == axis] == list(range(0, 128, 2))
    hidden = (1 - keep_mask(strips, (128, 128), 16)).sum(dim=(1, 2, 3)) / 128
    assert sorted(set(hidden.tolist())) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert (hidden == 16).sum() == 2 * 57
    border_count = (1 - keep_mask([strip for strip in strips if strip.axis == ROWS], (128, 128), 16)).sum(dim=0)[0, :, 0]
    assert border_count[0] == 1
    assert border_count[64] == 8


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 70), stride=st.integers(1, 6), times=st.integers(1, 6))
def test_even_coverage_hides_every_pixel_equally_often(size, stride, times):
    width = stride * times
    count = np.zeros(size, dtype=int)
    for start in strip_starts(size, width, stride, "even"):
        hidden = range(max(start, 0), min(start + width, size))
        assert len(hidden) > 0
        count[list(hidden)] += 1
    assert (count == times).all()


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 70), width=st.integers(1, 20), data=st.data())
def test_even_coverage_differs_by_one_where_the_stride_does_not_divide_the_width(size, width, data):
    stride = data.draw(st.integers(1, width))
    count = np.zeros(size, dtype=int)
    for start in strip_starts(size, width, stride, "even"):
        count[max(start, 0) : start + width] += 1
    assert count.min() >= width // stride
    assert count.max() <= -(-width // stride)


def test_even_coverage_of_a_slice_that_is_not_square():
    strips = all_strips((48, 64), width=8, stride=2)
    hidden = (1 - keep_mask(strips, (48, 64), 8)).sum(dim=0)[0]
    assert torch.equal(hidden, torch.full((48, 64), 8.0))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    density=st.sampled_from([0.0, 0.002, 0.02, 1.0]),
    coverage=st.sampled_from(["even", "published"]),
    as_tensor=st.booleans(),
)
def test_exactly_the_strips_without_brain_are_skipped(seed, density, coverage, as_tensor):
    shape, width, stride = (24, 36), 6, 3
    brain = np.random.default_rng(seed).random(shape) < density
    expected = [
        strip
        for strip in all_strips(shape, width, stride, coverage)
        if (brain & (brute_force_keep(strip, shape, width) == 0)).any()
    ]
    assert all_strips(shape, width, stride, coverage, torch.from_numpy(brain) if as_tensor else brain) == expected


def test_a_brain_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        all_strips((32, 48), 8, 4, brain=np.ones((48, 32), dtype=bool))


@pytest.mark.parametrize(("size", "width", "stride"), [(0, 4, 2), (16, 0, 1), (16, 4, 0), (16, 4, 5)])
def test_impossible_grids_are_refused(size, width, stride):
    with pytest.raises(ValueError, match="can't cover"):
        strip_starts(size, width, stride)


def test_an_unknown_coverage_is_refused():
    with pytest.raises(ValueError, match="coverage"):
        strip_starts(16, 4, 2, "odd")


def test_training_strips_hide_every_pixel_equally_often():
    shape, width, count = (24, 40), 8, 20_000
    strips = random_strips(count, shape, width, torch.Generator().manual_seed(0))
    rows = [strip for strip in strips if strip.axis == ROWS]
    columns = [strip for strip in strips if strip.axis == COLUMNS]
    assert len(rows) == pytest.approx(count / 2, rel=0.05)
    for chosen, edge in ((rows, shape[0]), (columns, shape[1])):
        starts = np.array([strip.start for strip in chosen])
        assert set(starts) == set(range(-(width - 1), edge))
        hidden = np.array([((starts <= pixel) & (pixel < starts + width)).mean() for pixel in range(edge)])
        np.testing.assert_allclose(hidden, width / (edge + width - 1), rtol=0.1)


def test_training_strips_follow_the_generator():
    def draw(seed: int) -> list[Strip]:
        return random_strips(16, (32, 32), 8, torch.Generator().manual_seed(seed))

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@settings(max_examples=40, deadline=None)
@given(
    edge=st.integers(8, 64),
    width=st.integers(1, 12),
    stride_part=st.floats(0, 1),
    per_pass=st.integers(1, 6),
    brain_part=st.floats(0, 1),
)
def test_groups_hold_every_strip_once_with_tissue_in_sight_between(edge, width, stride_part, per_pass, brain_part):
    stride = max(1, round(stride_part * width))
    brain = np.zeros((edge, edge), dtype=bool)
    brain[: 1 + int(brain_part * (edge - 1)), edge // 4 :] = True
    strips = all_strips((edge, edge), width, stride, "even", brain)
    groups = group_strips(strips, per_pass, width, stride)
    assert sorted((one.axis, one.start) for group in groups for one in group) == sorted(
        (one.axis, one.start) for one in strips
    )
    for group in groups:
        assert len({one.axis for one in group}) == 1
        starts = [one.start for one in group]
        assert len(group) <= per_pass
        assert all(after - before >= 2 * width for before, after in itertools.pairwise(starts))
    for axis in (ROWS, COLUMNS):
        line = [one for one in strips if one.axis == axis]
        room = -(-2 * width // stride)
        assert sum(group[0].axis == axis for group in groups) == min(len(line), max(-(-len(line) // per_pass), room)) or (
            per_pass == 1
        )


def test_one_strip_per_pass_is_one_pass_per_strip():
    strips = all_strips((32, 32), 8, 4)
    assert group_strips(strips, 1, 8, 4) == [(strip,) for strip in strips]
    with pytest.raises(ValueError, match="at least 1"):
        group_strips(strips, 0, 8, 4)


def test_the_mask_of_a_group_hides_what_any_of_its_strips_hides():
    groups = [(Strip(ROWS, -3),), (Strip(ROWS, 1), Strip(ROWS, 12)), (Strip(COLUMNS, 2), Strip(ROWS, 9), Strip(COLUMNS, 14))]
    keep = keep_mask_of_groups(groups, (18, 16), 4)
    assert keep.shape == (3, 1, 18, 16)
    for entry, group in enumerate(groups):
        expected = np.prod([brute_force_keep(strip, (18, 16), 4) for strip in group], axis=0)
        np.testing.assert_array_equal(keep[entry, 0].numpy(), expected)


def test_random_groups_hide_every_pixel_equally_often_and_two_strips_keep_apart():
    generator = torch.Generator().manual_seed(0)
    groups = random_strip_groups(20_000, (40, 48), 8, 0.5, generator)
    assert np.mean([len(group) == 2 for group in groups]) == pytest.approx(0.5, abs=0.02)
    for group in groups:
        assert len({strip.axis for strip in group}) == 1
        if len(group) == 2:
            assert abs(group[0].start - group[1].start) >= 16
    seconds = [group[1].start for group in groups if len(group) == 2 and group[0].axis == ROWS]
    counts = np.bincount(np.array(seconds) + 7, minlength=47)
    assert len(counts) == 47
    assert counts.min() > 0.6 * counts.mean()
    assert counts.max() < 1.4 * counts.mean()


def test_a_slice_without_room_for_two_strips_has_one():
    assert all(len(group) == 1 for group in random_strip_groups(50, (16, 16), 8, 1.0))


class Sent(TorchDispatchMode):
    """Counts the copies from the CPU to another device."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        if function is torch.ops.aten._to_copy.default:
            self.count += (arguments[0].device.type, result.device.type) == ("cpu", "meta")
        return result


def test_masks_are_made_on_the_device_of_one_small_tensor():
    strips = [Strip(ROWS, 2), Strip(COLUMNS, 5)]
    with Sent() as sent:
        assert keep_mask(strips, (32, 24), 8, "meta").shape == (2, 1, 32, 24)
    assert sent.count == 1
    assert keep_mask([], (32, 24), 8).shape == (0, 1, 32, 24)


class OnTheCPU:
    """Stands for a tensor where there is no GPU to send one to."""

    def __init__(self, pinned: bool = False) -> None:
        self.pinned = pinned

    def pin_memory(self) -> OnTheCPU:
        return OnTheCPU(pinned=True)

    def to(self, device: object, non_blocking: bool = False) -> tuple:
        return device, self.pinned, non_blocking


@pytest.mark.parametrize(("device", "pinned"), [("cuda", True), ("cuda:1", True), ("cpu", False), ("mps", False)])
def test_what_is_sent_to_a_gpu_is_not_waited_for(device, pinned):
    for given_device in (device, torch.device(device)):
        assert sent_to(given_device, OnTheCPU()) == (torch.device(device), pinned, pinned)


def test_what_is_sent_nowhere_stays():
    tensor = torch.ones(3)
    assert sent_to("cpu", tensor) is tensor
    assert sent_to(None, tensor) is tensor
