"""Anomalies made of healthy tissue in the wrong place or of the wrong person: pasted, blended, seamlessly inserted."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from mmccd_auto.synthetic_anomalies.blob import Blob
from mmccd_auto.synthetic_anomalies.block import HealthyBlock, continued_beyond_brain
from mmccd_auto.synthetic_anomalies.donor import donor_on_grid

PLACES = 20
LEAST_BRAIN = 0.9
BLENDING = (0.3, 0.9)
ANCHOR = 1e-8
NEIGHBOURS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def cut_paste(block: HealthyBlock, blob: Blob, random: np.random.Generator) -> np.ndarray:
    """Paste a patch from elsewhere in the brain (CutPaste: Li, Sohn, Yoon, Pfister, CVPR 2021), of the blob's shape.

    The patch comes from at least one radius away (half the greatest distance, where the brain isn't so large), from a place
    where nine tenths of it are brain, if one is found.

    Parameters
    ----------
    block : the slices
    blob : the place
    random : source of the draws

    Returns
    -------
    float64 [S, H, W], normalised
    """
    points = np.argwhere(blob.weight > 0)
    source = points + _offset(block, blob, points, random)
    for axis, edge in enumerate(block.image.shape):
        source[:, axis] = np.clip(source[:, axis], 0, edge - 1)
    altered = block.image.astype(np.float64)
    here = tuple(points.T)
    altered[here] += blob.weight[here] * (continued_beyond_brain(block)[tuple(source.T)] - altered[here])
    return altered


def interpolated(block: HealthyBlock, blob: Blob, random: np.random.Generator, donor: HealthyBlock) -> np.ndarray:
    """Blend with another subject's tissue at the same place, to 30 to 90 % (FPI: Tan, Hou, Batten, Qiu, Kainz, 2020).

    Parameters
    ----------
    block : the slices
    blob : the place
    random : source of the draws
    donor : of another subject, of any shape

    Returns
    -------
    float64 [S, H, W], normalised
    """
    slices = np.flatnonzero((block.brain & (blob.weight > 0)).any(axis=(1, 2)))
    altered = block.image.astype(np.float64)
    weight = random.uniform(*BLENDING) * blob.weight[slices]
    altered[slices] += weight * (donor_on_grid(donor, block, slices) - altered[slices])
    return altered


def poisson(block: HealthyBlock, blob: Blob, random: np.random.Generator, donor: HealthyBlock) -> np.ndarray:
    """Insert another subject's tissue at the same place without a seam.

    See PII (Tan et al., MICCAI 2021) and NSA (Schlueter et al., ECCV 2022).

    Parameters
    ----------
    block : the slices
    blob : the place
    random : not used, since nothing but the place is random
    donor : of another subject, of any shape

    Returns
    -------
    float64 [S, H, W], normalised
    """
    inside = block.brain & (blob.weight > 0.5)
    slices = np.flatnonzero(inside.any(axis=(1, 2)))
    altered = block.image.astype(np.float64)
    for index, source in zip(slices, donor_on_grid(donor, block, slices), strict=True):
        altered[index] = poisson_blend(altered[index], source, inside[index], block.brain[index])
    return altered


def poisson_blend(target: np.ndarray, source: np.ndarray, inside: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Give a region of the target the differences between neighbours that the source has (Perez et al., SIGGRAPH 2003).

    The values f of the region minimise the sum, over pairs (p, q) of 4-neighbours in the brain with p in the region, of
    (f_p - f_q - (source_p - source_q))^2, where f is the target outside the region. Neighbours outside the brain don't
    count, so that the background isn't drawn in. A region without any neighbour in the brain keeps the target's mean.

    Parameters
    ----------
    target, source : float [H, W]
    inside : bool [H, W], the region, within the brain
    brain : bool [H, W]

    Returns
    -------
    float64 [H, W], the target outside the region
    """
    result = target.astype(np.float64)
    pixels = np.argwhere(inside)
    if not len(pixels):
        return result
    number = np.full(np.array(inside.shape) + 2, -1)
    number[1:-1, 1:-1][inside] = np.arange(len(pixels))
    counted = np.pad(brain, 1)
    known, wanted = np.pad(result, 1), np.pad(source.astype(np.float64), 1)
    here = tuple((pixels + 1).T)
    # A region that fills the brain of a slice has no fixed neighbour; the anchor alone decides its level then.
    diagonal, right = np.full(len(pixels), ANCHOR), ANCHOR * known[here]
    rows, columns = [], []
    for step in NEIGHBOURS:
        there = tuple((pixels + 1 + step).T)
        counts, partner = counted[there], number[there]
        diagonal += counts
        right += np.where(counts, wanted[here] - wanted[there] + np.where(partner < 0, known[there], 0), 0)
        free = np.flatnonzero(counts & (partner >= 0))
        rows.append(free)
        columns.append(partner[free])
    places = np.concatenate(rows), np.concatenate(columns)
    matrix = sparse.diags(diagonal) - sparse.coo_matrix((np.ones(len(places[0])), places), shape=(len(pixels),) * 2)
    result[inside] = spsolve(matrix.tocsc(), right)
    return result


def _offset(block: HealthyBlock, blob: Blob, points: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Compute the voxels from the blob to the place that the patch is taken from."""
    centre, spacing = np.array(blob.centre), np.array(block.spacing)
    candidates = np.argwhere(block.brain) - centre
    distances = np.linalg.norm(candidates * spacing, axis=1)
    candidates = candidates[distances >= min(blob.radius, 0.5 * distances.max())]
    best, most = candidates[0], -1.0
    for offset in candidates[random.integers(len(candidates), size=PLACES)]:
        source = points + offset
        within = ((source >= 0) & (source < block.brain.shape)).all(axis=1)
        share = np.count_nonzero(block.brain[tuple(source[within].T)]) / len(points)
        if share > most:
            best, most = offset, share
        if most >= LEAST_BRAIN:
            break
    return best
