"""Fixtures that more than one room's tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from mmccd_auto.plans.plan import ConfigurationPlan, DiffusionPlan, NetworkPlan, Plan, TrainingPlan

# On a busy machine any example may take long.
settings.register_profile("without time limits", deadline=None)
settings.load_profile("without time limits")


@pytest.fixture(scope="session", autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of development scans; the test is skipped where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MMCCD_REAL_DATA", default))
    if not (folder / "Dataset001_RealBrain").is_dir():
        pytest.skip("the development scans are not here (set MMCCD_REAL_DATA)")
    return folder


@pytest.fixture
def tiny_plan() -> Plan:
    """A plan small enough for a network to run in milliseconds: 32 x 32 px of 4 mm, FLAIR and T1."""
    return Plan(
        plans_name="mmccdPlans",
        dataset_name="Dataset900_Tiny",
        planner="MMCCDPlanner",
        modalities=("FLAIR", "T1"),
        slice_axis="axial",
        target_spacing=4.0,
        patch_size=(32, 32),
        normalisation={"FLAIR": "percentile", "T1": "percentile"},
        strip_width=8,
        network=NetworkPlan(
            base_channels=8, channel_multipliers=(1, 2), residual_blocks=1, attention_edges=(16,), norm_groups=4
        ),
        diffusion=DiffusionPlan(),
        training=TrainingPlan(batch_size=4, iterations_per_epoch=5, num_epochs=2),
        default_configuration="FLAIR-T1",
        configurations={
            "FLAIR-T1": ConfigurationPlan("FLAIR", "T1", sampling_steps=2, strip_stride=4),
            "T1-FLAIR": ConfigurationPlan("T1", "FLAIR", sampling_steps=2, strip_stride=4),
        },
        cost={},
    )
