"""Draw the tissues that lesions are made of, so that their contrasts fit over the modalities."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.imaging.intensity_scale import UPPER_LIMIT
from mmccd_auto.phantom.signal import HEALTHY, SEQUENCES, Relaxation, signal
from mmccd_auto.synthetic_anomalies.batched.draws import Draws
from mmccd_auto.synthetic_anomalies.physical import DENSITY, SEQUENCE_OF_CONTRAST, T1_MS, T2_MS, uniform_logs

CANDIDATES = 20_000
WET_SHARE = 0.7
"""Of the tissues, that hold more water than healthy ones, as oedema, tumours, demyelination and cysts do."""
WET_T1_MS = (700.0, 2600.0)
WET_T2_MS = (85.0, 300.0)
WET_DENSITY = (0.8, 1.0)
RATIO_OF_UNKNOWN = (0.2, 2.2)
"""To white matter, in modalities without a sequence in the phantom."""
LEVEL_SPREAD = 0.12
"""Standard deviation of the logarithm: scanners have other times than the phantom's."""

UNKNOWN_SCALE = (1.0, -5.0)
"""White matter and no signal, where nothing was measured."""


@dataclass(frozen=True)
class ModalityScale:
    """Where two signals lie in a modality's normalised intensities.

    Attributes
    ----------
    modality : as the dataset names it
    white_matter : usual level of white matter
    zero : level of no signal, below the darkest brain
    """

    modality: str
    white_matter: float
    zero: float


def signal_ratio(tissue: Relaxation, modality: str) -> float | np.ndarray | None:
    """Compute a tissue's signal relative to white matter; None in a modality without a sequence in the phantom.

    T1 with contrast agent counts as T1, PD as T2.
    """
    name = SEQUENCE_OF_CONTRAST.get(contrast(modality))
    if name is None:
        return None
    return signal(tissue, SEQUENCES[name]) / signal(HEALTHY["white matter"], SEQUENCES[name])


@functools.lru_cache(maxsize=16)
def ratio_table(modalities: tuple[str, ...]) -> Tensor:
    """Draw tissues and give their signals relative to white matter, always the same; float32 [tissues, modalities].

    A modality without a sequence in the phantom gets ratios of its own.
    """
    random = np.random.default_rng(0)
    wet = random.random(CANDIDATES) < WET_SHARE
    t1, t2 = (
        np.exp(np.where(wet, uniform_logs(random, wet_limits, CANDIDATES), uniform_logs(random, limits, CANDIDATES)))
        for wet_limits, limits in ((WET_T1_MS, T1_MS), (WET_T2_MS, T2_MS))
    )
    density = np.where(wet, random.uniform(*WET_DENSITY, CANDIDATES), random.uniform(*DENSITY, CANDIDATES))
    possible = t2 < t1
    tissue = Relaxation(t1[possible], t2[possible], density[possible])
    columns = []
    for modality in modalities:
        ratio = signal_ratio(tissue, modality)
        if ratio is None:
            ratio = np.exp(uniform_logs(random, RATIO_OF_UNKNOWN, int(possible.sum())))
        columns.append(ratio)
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


def draw_levels(scales: Sequence[ModalityScale], draws: Draws) -> Tensor:
    """Draw a tissue a slice and give its level in each modality; [N, M, 1, 1], normalised."""
    table = ratio_table(tuple(scale.modality for scale in scales)).to(draws.device)
    ratio = table[draws.integers(len(table))][:, :, None, None]
    ratio = ratio * torch.exp(LEVEL_SPREAD * draws.normal(len(scales)))
    zero, white = (
        torch.tensor([getattr(scale, name) for scale in scales], device=draws.device).view(1, -1, 1, 1)
        for name in ("zero", "white_matter")
    )
    return (zero + (white - zero) * ratio).clamp(max=UPPER_LIMIT)


def draw_signs(modalities: Sequence[str], draws: Draws, usual_share: float = 0.75) -> Tensor:
    """Draw whether a lesion is brighter (1) or darker (-1) in each modality; [N, M, 1, 1].

    A share of the lesions has the sign that water has: dark on T1, bright on FLAIR, T2 and what isn't known; the others are
    reversed in all modalities.
    """
    dark = torch.tensor([-1.0 if contrast(name) == "T1" else 1.0 for name in modalities], device=draws.device)
    return torch.where(draws.coin(usual_share), 1.0, -1.0) * dark.view(1, -1, 1, 1)
