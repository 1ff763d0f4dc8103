"""Fingerprints built in code."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from mmccd_auto.plans.fingerprint import CaseFingerprint, DatasetFingerprint, ModalityFingerprint, SlicesFingerprint
from mmccd_auto.plans.measures import coarsest_axis

BRAIN_XYZ = (140.0, 175.0, 135.0)


def _case(
    subject: str,
    spacing: tuple[float, float, float],
    modalities: tuple[str, ...],
    brain: tuple[float, float, float],
    correlation_length: float,
    healthy_share: float,
) -> CaseFingerprint:
    one = ModalityFingerprint(
        percentiles={key: float(key) * 10 for key in ("0.5", "2", "10", "25", "50", "75", "90", "98", "99.5")},
        mean=500.0,
        standard_deviation=100.0,
        noise_sigma=5.0,
        correlation_length=(correlation_length,) * 3,
        depth_profile=(0.5, 0.6, 0.7, 0.75, 0.7),
        skull="stripped",
    )
    slices = {}
    for axis, (across, rows, columns) in {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}.items():
        number = math.floor(brain[across] / spacing[across])
        section = (0.7 * brain[rows], 0.7 * brain[columns])
        slices[axis] = SlicesFingerprint(number, math.floor(healthy_share * number), section)
    return CaseFingerprint(
        subject=subject,
        orientation="LPS",
        size=tuple(round(200 / edge) for edge in spacing),
        spacing=spacing,
        slice_axis=coarsest_axis(spacing),
        brain_box=brain[::-1],
        brain_volume=1400.0,
        mask_given=False,
        one_grid=True,
        brain_overlap=1.0,
        slices=slices,
        modalities=dict.fromkeys(modalities, one),
    )


@pytest.fixture(scope="session")
def make_fingerprint() -> Callable[..., DatasetFingerprint]:
    """make_fingerprint(spacing, modalities=..., subjects=..., brain=..., extra={case: modalities}) -> fingerprint."""

    def make(
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        modalities: tuple[str, ...] = ("FLAIR", "T1", "T1c", "T2"),
        subjects: int = 20,
        brain: tuple[float, float, float] = BRAIN_XYZ,
        correlation_length: float = 5.0,
        healthy_share: float = 0.6,
        extra: tuple[tuple[str, ...], ...] = (),
    ) -> DatasetFingerprint:
        had = [modalities] * subjects + list(extra)
        cases = {
            f"case_{index:03d}": _case(f"subject_{index}", spacing, names, brain, correlation_length, healthy_share)
            for index, names in enumerate(had)
        }
        known = tuple(dict.fromkeys(name for names in had for name in names))
        return DatasetFingerprint.of_cases("Dataset007_Test", known, cases)

    return make
