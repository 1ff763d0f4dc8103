"""From the average brain laid on a scan to the scan's own brain."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

DEPTH_MM = 5.0
RING_MM = (3.0, 14.0)
BAND_MM, ROOM_MM = 14.0, 10.0
BINS = 48
LARGEST_EVIDENCE = 2.5
PRIOR_MM = 3.0
OFFSET_MM = -1.5
"""The average brain's mask keeps the fluid around it; scans of single persons follow the brain more closely."""

SMOOTHNESS = 1.2
EDGE_SHARE = 0.15
BIAS_MM = 25.0
ITERATIONS = 120
PASSES, FOLLOWING_MM = 2, 5.0
"""After each pass but the last its surface, smoothed by so much, takes the place of the average one."""

FORBIDDEN = 50.0
OPENING_MM, CLOSING_MM = 4.0, 5.0


def refine(array: np.ndarray, distance: np.ndarray, edge: float) -> np.ndarray:
    """Refine the brain's surface near the average brain's.

    Finds the region of least energy in a band around the average surface (Bresson et al., J. Math. Imaging Vis. 28, 2007:
    convex, so there is one least energy and no start to choose). The energy sums three terms: how much likelier a voxel's
    intensity is deep inside the average brain than in a ring around it, the distance from the average surface, and the area
    of the surface, which costs less where the intensity changes. Then bridges to the dura are cut.

    Parameters
    ----------
    array : float32 [z, y, x], cubes of ``edge`` mm, 0..1
    distance : float32, mm from the surface of the average brain; negative inside
    edge : mm

    Returns
    -------
    float32 [z, y, x], the share of brain, 0..1; the surface lies at 0.5
    """
    distance = distance - OFFSET_MM
    box = ndimage.find_objects((distance < BAND_MM + ROOM_MM).astype(np.uint8))[0]
    part, prior = array[box], distance[box]
    for following in range(PASSES):
        share = _tidied(_surface(part, prior, edge), edge)
        if following < PASSES - 1:
            prior = ndimage.gaussian_filter(_signed_distance(share > 0.5) * edge, FOLLOWING_MM / edge)
    result = np.zeros(array.shape, dtype=np.float32)
    result[box] = share
    return result


def _surface(array: np.ndarray, prior: np.ndarray, edge: float) -> np.ndarray:
    """Compute the region of least energy around a prior surface; float32, 0..1."""
    flat = _flattened(array, prior, edge)
    cost = prior / PRIOR_MM - _evidence(flat, prior)
    cost = np.where(prior > BAND_MM, FORBIDDEN, np.where(prior < -BAND_MM, -FORBIDDEN, cost)).astype(np.float32)
    return _least_energy(cost, SMOOTHNESS * _edge_weight(flat, edge))


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Compute the voxels from the border; negative inside."""
    outside, inside = (ndimage.distance_transform_edt(side) for side in (~mask, mask))
    return (outside - inside + np.where(mask, 0.5, -0.5)).astype(np.float32)


def _flattened(array: np.ndarray, distance: np.ndarray, edge: float) -> np.ndarray:
    """Compute the intensity relative to the brain's local mean, which removes shading; around 1 inside the brain."""
    inside = (distance < -2).astype(np.float32)
    middle = float(np.median(array[distance < -2]))
    usual = inside * ((array > 0.4 * middle) & (array < 1.8 * middle))
    sigma = BIAS_MM / edge
    weight = ndimage.gaussian_filter(usual, sigma, truncate=3)
    mean = ndimage.gaussian_filter(array * usual, sigma, truncate=3)
    return array / np.maximum((mean + 1e-3 * middle) / (weight + 1e-3), 1e-3)


def _evidence(flat: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Compute the logarithm of how much likelier an intensity is inside than around the brain; within +-LARGEST_EVIDENCE."""
    values = np.clip(flat / 3.0 * BINS, 0, BINS - 1).astype(np.int16)
    inside = distance < -DEPTH_MM
    around = (distance > RING_MM[0]) & (distance < RING_MM[1])
    shares = []
    for region in (inside, around):
        counts = ndimage.gaussian_filter1d(np.bincount(values[region], minlength=BINS).astype(float), 1.0)
        shares.append((counts + 0.01 * counts.sum() / BINS) / max(counts.sum(), 1.0))
    ratio = np.clip(np.log(shares[0] / shares[1]), -LARGEST_EVIDENCE, LARGEST_EVIDENCE)
    return ratio[values].astype(np.float32)


def _edge_weight(flat: np.ndarray, edge: float) -> np.ndarray:
    """Compute 1 where the intensity is even, towards 0.1 at its steps."""
    steep = ndimage.gaussian_gradient_magnitude(np.clip(flat, 0, 2), 1.0) / edge
    return (0.1 + 0.9 / (1 + (steep / EDGE_SHARE) ** 2)).astype(np.float32)


def _least_energy(cost: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Minimise sum(weight |grad u| + cost u) over 0 <= u <= 1 (Chambolle and Pock, J. Math. Imaging Vis. 40, 2011)."""
    step = 0.28
    share = (cost < 0).astype(np.float32)
    leading = share.copy()
    flow = np.zeros((3, *cost.shape), dtype=np.float32)
    for _ in range(ITERATIONS):
        for axis in range(3):
            inner = _without(axis, -1)
            flow[axis][inner] += step * np.diff(leading, axis=axis)
        norm = np.sqrt((flow**2).sum(axis=0))
        flow *= weight / np.maximum(norm, weight)
        change = np.zeros_like(share)
        for axis in range(3):
            inner, shifted = _without(axis, -1), _without(axis, 0)
            change[inner] += flow[axis][inner]
            change[shifted] -= flow[axis][inner]
        new = np.clip(share + step * (change - cost), 0, 1)
        leading = 2 * new - share
        share = new
    return share


def _without(axis: int, end: int) -> tuple[slice, ...]:
    """Return all but the last (-1) or the first (0) layer along ``axis``."""
    whole = [slice(None)] * 3
    whole[axis] = slice(None, -1) if end else slice(1, None)
    return tuple(whole)


def _tidied(share: np.ndarray, edge: float) -> np.ndarray:
    """Cut bridges, keep the largest part, close narrow gaps, fill holes; the surface stays where ``share`` put it."""
    mask = np.pad(share > 0.5, 6, mode="edge")
    opened = _opened(mask, OPENING_MM / edge)
    labels, count = ndimage.label(opened)
    if count:
        opened = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    closed = ~_opened(~opened, CLOSING_MM / edge)
    filled = ndimage.binary_fill_holes(closed)[6:-6, 6:-6, 6:-6]
    mask = mask[6:-6, 6:-6, 6:-6]
    return np.where(filled == mask, share, filled).astype(np.float32)


def _opened(mask: np.ndarray, radius: float) -> np.ndarray:
    """Open a mask morphologically with a ball, radius in voxels."""
    if mask.all() or not mask.any():
        return mask
    eroded = ndimage.distance_transform_edt(mask) > radius
    if not eroded.any():
        return eroded
    return ndimage.distance_transform_edt(~eroded) <= radius
