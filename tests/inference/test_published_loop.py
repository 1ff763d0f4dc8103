"""The published test procedure, written down plainly for the benchmarks, and the preset "paper" give the same map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from published_loop import PublishedLoop

from mmccd_auto.inference.maps.engine import MapMaker, anomaly_maps
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.options import MapOptions
from mmccd_auto.model.cycle import build_cycle

PATCH = (16, 16)


@pytest.mark.parametrize("method", ["mmccd", "mmccd_published"])
def test_the_preset_paper_is_the_published_loop(tiny_plan, monkeypatch, method) -> None:
    """Noise of 0 for both: the loop draws it in another order."""
    plan = replace(tiny_plan, diffusion=replace(tiny_plan.diffusion, timesteps=1000))
    monkeypatch.setattr(
        "mmccd_auto.model.cycle.standard_normal", lambda keys, draw, shape, device=None: torch.zeros(len(keys), 1, *shape)
    )
    monkeypatch.setattr(torch, "randn", lambda shape, generator=None: torch.zeros(shape))
    torch.manual_seed(0)
    cycle = build_cycle(method, plan).eval().requires_grad_(False)
    # As they begin, but for the zeros: networks of random weights alone hardly heed what they are shown.
    for parameter in cycle.parameters():
        parameter += 0.05 * torch.empty_like(parameter).normal_()
    brain = np.zeros((1, *PATCH), dtype=bool)
    brain[0, 10:15, 4:13] = True
    image = np.where(brain, np.random.default_rng(0).normal(0, 1.5, brain.shape), -3).astype(np.float32)
    settings = make_settings(plan, options=MapOptions(preset="paper"))
    maps = anomaly_maps(MapMaker(cycle, settings, torch.device("cpu"), PATCH), image, brain, "case")
    loop = PublishedLoop(cycle, PATCH)
    found = loop.run(torch.from_numpy(image)[:, None], loop.strips, torch.Generator())[:, 0].numpy()
    assert (len(loop.timesteps), loop.timesteps[0], loop.timesteps[-1]) == (100, 990, 0)
    assert settings.sampling.steps == 100
    np.testing.assert_allclose(maps.squared[brain], found[brain], rtol=1e-4, atol=1e-5)
    # What is said to be left out: strips without brain, nothing else.
    assert maps.network_evaluations < loop.evaluations_per_slice
