"""Voxels that are NaN or infinite: harmless around the brain, filled in where few are inside it, else a reason to refuse."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.volume import Volume

LARGEST_SHARE = 0.001
LARGEST_PART_MM3 = 20.0
# A plane with less brain than this share of what both sides have was lost, and is no fold of the brain.
LOST_PLANE_SHARE = 0.25
_ALL_NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)


def with_zeros(volume: Volume) -> Volume:
    """Return the volume with 0 for every voxel that is NaN or infinite.

    Enough to look for the brain in it, or to register it.
    """
    finite = np.isfinite(volume.array)
    if finite.all():
        return volume
    return Volume(np.where(finite, volume.array, np.zeros((), volume.array.dtype)), volume.geometry, volume.warnings)


def settle_non_finite(volume: Volume, brain: np.ndarray, name: str) -> Volume:
    """Return a volume without NaN and infinity; the same object where it had none.

    Outside of the brain they become 0. Inside they take the mean of their neighbours, and a warning says how many they
    were, while they are no more than 0.1 % of the brain and no part of them that hangs together is larger than 20 mm3 (and
    a voxel): a lesion can't hide there. What reaches the volume's sides and is nowhere thin is background, wherever the
    mask of the brain ends; planes that were lost within the brain belong to it.

    Parameters
    ----------
    brain : bool [z, y, x], as far as it is known
    name : begins the sentence of an error

    Raises
    ------
    MMCCDError
        If there are more of them inside the brain.
    """
    bad = ~np.isfinite(volume.array)
    if not bad.any():
        return volume
    inside = _inside(bad, brain)
    array = np.where(bad, np.zeros((), volume.array.dtype), volume.array)
    if not inside.any():
        return Volume(array, volume.geometry, volume.warnings)
    share = np.count_nonzero(inside) / np.count_nonzero(brain | inside)
    labels, _ = ndimage.label(inside, structure=_ALL_NEIGHBOURS)
    largest = int(np.bincount(labels.ravel())[1:].max())
    count, share_told = np.count_nonzero(inside), f"{100 * share:.2g} % of it"
    if share > LARGEST_SHARE or (largest > 1 and largest * volume.geometry.voxel_volume > LARGEST_PART_MM3):
        raise MMCCDError(
            f"{name} holds {count} voxels that are NaN or infinite inside the brain ({share_told}, up to "
            f"{largest * volume.geometry.voxel_volume / 1000:.2g} ml in one piece), where nothing could be found: export it "
            "again or repair it."
        )
    _fill_in(array, bad, inside)
    warning = (
        f"{count} voxels inside the brain ({share_told}) are NaN or infinite: they were filled in from their neighbours."
    )
    return Volume(array, volume.geometry, (*volume.warnings, warning))


def _inside(bad: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Decide which of the bad voxels belong to the brain."""
    inside = bad & brain & ~_background(bad)
    for axis in range(3):
        inside |= _lost_planes(bad, brain, axis)
    labels, _ = ndimage.label(bad)
    # What touches no side of the volume but the brain is a hole in it, though the mask may end there.
    touching = set(np.unique(labels[ndimage.binary_dilation(brain) & bad])) - set(np.unique(labels[_sides(bad.shape)])) - {0}
    return inside | np.isin(labels, list(touching))


def _background(bad: np.ndarray) -> np.ndarray:
    """Find the bad voxels that hang together with a side of the volume and have a core that is three voxels thick."""
    labels, _ = ndimage.label(bad)
    cores = ndimage.binary_erosion(bad, _ALL_NEIGHBOURS, border_value=1)
    outer = (set(np.unique(labels[_sides(bad.shape)])) & set(np.unique(labels[cores]))) - {0}
    return np.isin(labels, list(outer))


def _sides(shape: tuple[int, ...]) -> np.ndarray:
    sides = np.ones(shape, dtype=bool)
    sides[1:-1, 1:-1, 1:-1] = False
    return sides


def _lost_planes(bad: np.ndarray, brain: np.ndarray, axis: int) -> np.ndarray:
    """Find the bad voxels in planes across ``axis`` that have hardly any brain.

    Between planes that have it in the same place.
    """
    planes, lost = np.moveaxis(brain, axis, 0), np.zeros(brain.shape, dtype=bool)
    areas = planes.sum(axis=(1, 2))
    before, after = np.maximum.accumulate(areas), np.maximum.accumulate(areas[::-1])[::-1]
    gaps = areas < LOST_PLANE_SHARE * np.minimum(before, after)
    whole = np.flatnonzero(~gaps)
    for number in np.flatnonzero(gaps & np.moveaxis(bad, axis, 0).any(axis=(1, 2))):
        place = np.searchsorted(whole, number)
        between = planes[whole[place - 1]] & planes[whole[place]]
        np.moveaxis(lost, axis, 0)[number] = between & np.moveaxis(bad, axis, 0)[number]
    return lost


def _fill_in(array: np.ndarray, bad: np.ndarray, inside: np.ndarray) -> None:
    """Give each of the few voxels ``inside`` the mean of its finite neighbours, in place.

    The nearest finite one's value where it has none.
    """
    nearest = None
    for place in np.argwhere(inside):
        around = tuple(slice(max(0, index - 1), index + 2) for index in place)
        usable = array[around][~bad[around]]
        if usable.size:
            array[tuple(place)] = usable.mean(dtype=np.float64)
            continue
        if nearest is None:
            nearest = ndimage.distance_transform_edt(bad, return_distances=False, return_indices=True)
        here = (slice(None), *place)
        array[tuple(place)] = array[tuple(nearest[here])]
