"""Another subject's slices, brought onto the grid of a block."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from mmccd_auto.core.tuples import pair
from mmccd_auto.synthetic_anomalies.block import HealthyBlock, continued_beyond_brain


def donor_on_grid(donor: HealthyBlock, block: HealthyBlock, slices: np.ndarray) -> np.ndarray:
    """Compute a donor's tissue at the same place of the brain, as far as boxes around the brain can show.

    To each slice belongs the donor's slice at the nearest relative place among those with brain (the middle one, where the
    block has a single slice); within it, the centre and edges of the brain's box are laid on those of the block's. Beyond
    its brain the donor continues with the nearest brain value.

    Parameters
    ----------
    donor : of any shape
    block : whose grid is wanted
    slices : indices into the block, of slices with brain

    Returns
    -------
    float64 [len(slices), H, W], in the donor's normalised intensities
    """
    continued = continued_beyond_brain(donor)
    low, high = donor.image[donor.brain].min(), donor.image[donor.brain].max()
    found = []
    for index in slices:
        partner = _matching_slice(block.brain, donor.brain, int(index))
        positions = [
            _laid_on(own, other, edge)
            for own, other, edge in zip(
                _box(block.brain[index]), _box(donor.brain[partner]), block.image.shape[1:], strict=True
            )
        ]
        # Cubic, since linear interpolation would give the patch away by its blur; clipped, since cubic may overshoot.
        values = ndimage.map_coordinates(
            continued[partner].astype(np.float64), np.meshgrid(*positions, indexing="ij"), order=3, mode="nearest"
        )
        found.append(np.clip(values, low, high))
    return np.stack(found)


def _matching_slice(brain: np.ndarray, other: np.ndarray, index: int) -> int:
    own, others = (np.flatnonzero(mask.any(axis=(1, 2))) for mask in (brain, other))
    place = (index - own[0]) / (own[-1] - own[0]) if own[-1] > own[0] else 0.5
    return int(others[np.argmin(np.abs(others - (others[0] + place * (others[-1] - others[0]))))])


def _box(mask: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first and one past last line with brain: rows, columns."""
    lines = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    return pair((int(one[0]), int(one[-1]) + 1) for one in lines)


def _laid_on(own: tuple[int, int], other: tuple[int, int], edge: int) -> np.ndarray:
    """Compute the positions in the other's grid of each of ``edge`` pixels; pixel edges, not centres, bound the boxes."""
    scale = (other[1] - other[0]) / (own[1] - own[0])
    return (np.arange(edge) + 0.5 - sum(own) / 2) * scale + sum(other) / 2 - 0.5
