"""Presets: what the paper's is made of, what a user may change."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.options import MapOptions
from mmccd_auto.model.cycle import SamplingSettings
from mmccd_auto.model.strip_masks import all_strips


@pytest.fixture
def paper_plan(tiny_plan):
    """The published geometry: 128 px, strips of 16 px."""
    cycle = replace(tiny_plan.configurations["FLAIR-T1"], sampling_steps=20, strip_stride=4)
    return replace(tiny_plan, patch_size=(128, 128), strip_width=16, configurations={"FLAIR-T1": cycle})


def test_the_paper_preset_is_the_published_setting(paper_plan):
    settings = make_settings(paper_plan, options=MapOptions(preset="paper"))
    strips = all_strips((128, 128), settings.strip_width, settings.strip_stride, settings.coverage)
    assert len(strips) == 128
    assert sorted((strip.axis, strip.start) for strip in strips) == [
        (axis, start) for axis in (0, 1) for start in range(0, 128, 2)
    ]
    assert settings.strip_width == 16
    assert settings.sampling == SamplingSettings(100, "leading", share_initial_noise=True, redraw_condition_noise=True)


def test_the_balanced_preset_obeys_the_plan(paper_plan):
    settings = make_settings(paper_plan)
    assert (settings.sampling.steps, settings.strip_stride, settings.strip_width) == (20, 4, 16)
    assert (settings.sampling.spacing, settings.coverage, settings.strips_per_pass) == ("trailing", "even", 1)
    assert settings.seed == paper_plan.training.seed


@pytest.mark.parametrize("planned", [(20, 4, 1), (2, 16, 1), (1, 1, 3), (1, 16, 4)])
def test_the_fast_preset_is_never_slower_than_the_balanced_one(paper_plan, planned):
    steps, stride, together = planned
    cycle = replace(
        paper_plan.configurations["FLAIR-T1"], sampling_steps=steps, strip_stride=stride, strips_per_pass=together
    )
    fast = make_settings(replace(paper_plan, configurations={"FLAIR-T1": cycle}), options=MapOptions(preset="fast"))
    assert (fast.sampling.steps, fast.strip_stride, fast.strips_per_pass) == (1, 16, max(2, together))


def test_the_cyclic_preset_hides_nothing_and_takes_one_step(paper_plan):
    settings = make_settings(paper_plan, options=MapOptions(preset="cyclic"))
    assert (settings.sampling.steps, settings.strips_per_pass) == (1, 0)


def test_a_users_values_replace_the_presets(paper_plan):
    settings = make_settings(
        paper_plan,
        options=MapOptions(preset="paper", sampling_steps=7, strip_stride=16, batch_size=3, strips_per_pass=2),
        seed=11,
    )
    assert settings.strips_per_pass == 2
    assert (settings.sampling.steps, settings.strip_stride, settings.batch_size, settings.seed) == (7, 16, 3, 11)
    assert settings.sampling.spacing == "leading"


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"preset": "best"}, "preset"),
        ({"sampling_steps": 0}, "sampling_steps"),
        ({"sampling_steps": 1001}, "sampling_steps"),
        ({"strip_stride": 17}, "strip_stride"),
        ({"strip_stride": 0}, "strip_stride"),
        ({"strips_per_pass": -1}, "strips_per_pass"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_impossible_values_are_refused_by_name(paper_plan, options, word):
    with pytest.raises(MMCCDError, match=word):
        make_settings(paper_plan, options=MapOptions(**options))


def test_an_unknown_configuration_is_refused_by_name(paper_plan):
    with pytest.raises(MMCCDError, match="T1-T2"):
        make_settings(paper_plan, "T1-T2")


def test_json_tells_what_decides_the_map(paper_plan):
    one, other = (make_settings(paper_plan, options=MapOptions(batch_size=size)).to_json() for size in (1, 64))
    assert one == other == json.loads(json.dumps(one))
    assert one != make_settings(paper_plan, options=MapOptions(sampling_steps=3)).to_json()
