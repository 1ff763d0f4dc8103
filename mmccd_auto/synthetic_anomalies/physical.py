"""Lesions of another tissue, shown as the signal equations say: brighter than, darker than or like white matter."""

from __future__ import annotations

import numpy as np

from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.phantom.signal import HEALTHY, SEQUENCES, Relaxation, signal
from mmccd_auto.plans.measures import noise_sigma
from mmccd_auto.synthetic_anomalies.blob import Blob, smooth_noise
from mmccd_auto.synthetic_anomalies.block import HealthyBlock

T1_MS = (250.0, 3000.0)
T2_MS = (25.0, 300.0)
DENSITY = (0.7, 1.0)
"""From fat and blood with short T1, and blood with short T2, to nearly water."""

SIGNAL_RATIOS = {"brighter": (1.2, 2.2), "darker": (0.1, 0.8), "equal": (0.95, 1.05)}
"""Lesion to white matter. What differs less than a fifth is not taken for brighter or darker."""

SHARES = {"brighter": (0.6, 1.0), "darker": (0.6, 1.0), "equal": (0.9, 1.0)}
"""Of the lesion in a voxel within: infiltrated tissue keeps some of its structure."""

CANDIDATES = 4096
TEXTURE = (0.03, 0.1)
TEXTURE_SMOOTHNESS_MM = (2.0, 6.0)
SEQUENCE_OF_CONTRAST = {"FLAIR": "FLAIR", "T1": "T1", "T1C": "T1", "T2": "T2", "PD": "T2", "PDW": "T2"}

WHITE_MATTER_PERCENTILE = {"T1": 80.0, "T2": 25.0, "FLAIR": 45.0}
"""Of the brain's intensities. The white matter of the phantom and of seven real subjects, taken for the brightest third of
T1 away from edges, lay at 33 to 62 in FLAIR and 12 to 48 in T2; the middle of that third is about 80 in T1."""

NEIGHBOURHOOD_MM = 30.0
WHITE_MATTER_TOLERANCE = 0.2


def other_tissue(kind: str, block: HealthyBlock, blob: Blob, random: np.random.Generator) -> np.ndarray:
    """Replace a blob by a tissue that the modality shows brighter than, darker than or like white matter.

    T1, T2 and proton density are drawn until the signal's ratio to white matter fits the kind. The tissue has the raw
    intensity of white matter nearby times that ratio, a smooth texture of its own, and the scan's noise. Whatever was in
    the blob goes, fluid as well; how much of it stays visible is drawn too.

    Parameters
    ----------
    kind : "brighter", "darker" or "equal"
    block : the slices
    blob : the place
    random : source of the draws

    Returns
    -------
    float64 [S, H, W], normalised
    """
    # Scans that were standardised before have no zero of signal; their darkest brain stands in for it.
    zero = min(0.0, block.shift)
    raw = (block.image.astype(np.float64) - BACKGROUND) / block.scale + block.shift - zero
    level = _white_matter_level(raw, block, blob) * draw_signal_ratio(kind, block.modality, random)
    texture = random.uniform(*TEXTURE) * smooth_noise(
        raw.shape, block.spacing, random.uniform(*TEXTURE_SMOOTHNESS_MM), random
    )
    noise = noise_sigma(raw, block.brain) * random.standard_normal(raw.shape)
    share = random.uniform(*SHARES[kind]) * blob.weight
    mixed = raw + share * (level * (1 + texture) + noise - raw)
    return (mixed + zero - block.shift) * block.scale + BACKGROUND


def draw_signal_ratio(kind: str, modality: str, random: np.random.Generator) -> float:
    """Draw a tissue and return its signal relative to white matter.

    Parameters
    ----------
    kind : "brighter", "darker" or "equal"
    modality : as the dataset names it; without an own sequence in the phantom, T1 with contrast agent counts as T1, PD as
        T2, and for any other the ratio itself is drawn, evenly within the kind's range
    random : source of the draws
    """
    low, high = SIGNAL_RATIOS[kind]
    name = SEQUENCE_OF_CONTRAST.get(contrast(modality))
    if name is None:
        return float(random.uniform(low, high))
    t1, t2 = (np.exp(uniform_logs(random, limits, CANDIDATES)) for limits in (T1_MS, T2_MS))
    tissue = Relaxation(t1, t2, random.uniform(*DENSITY, size=CANDIDATES))
    ratios = np.asarray(signal(tissue, SEQUENCES[name]) / signal(HEALTHY["white matter"], SEQUENCES[name]))
    # No tissue has a T2 longer than its T1. Hundreds of candidates are left for every kind and sequence.
    return float(ratios[(ratios >= low) & (ratios <= high) & (t2 < t1)][0])


def uniform_logs(random: np.random.Generator, limits: tuple[float, float], count: int) -> np.ndarray:
    """Draw logarithms of numbers within limits, uniform, float64 [count]."""
    low, high = np.log(limits)
    return random.uniform(low, high, size=count)


def _white_matter_level(raw: np.ndarray, block: HealthyBlock, blob: Blob) -> float:
    """Estimate the raw intensity of the white matter around the blob; of the whole block's where none is near."""
    name = SEQUENCE_OF_CONTRAST.get(contrast(block.modality), "FLAIR")
    overall = float(np.percentile(raw[block.brain], WHITE_MATTER_PERCENTILE[name]))
    squares = sum(
        ((position - middle) * edge) ** 2
        for position, middle, edge in zip(
            np.ogrid[tuple(slice(edge) for edge in raw.shape)], blob.centre, block.spacing, strict=True
        )
    )
    near = raw[block.brain & (squares <= NEIGHBOURHOOD_MM**2)]
    alike = near[np.abs(near - overall) <= WHITE_MATTER_TOLERANCE * abs(overall)]
    return float(np.median(alike)) if alike.size else overall
