"""Smooth random fields: what deforms a brain, shades a scan and gives tissue its texture."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

MARGIN = 3.0


def smooth_field(shape: tuple[int, ...], sigma: float, random: np.random.Generator) -> np.ndarray:
    """Compute Gaussian noise smoothed by ``sigma`` voxels, with mean 0 and standard deviation 1; float32 of ``shape``.

    It is drawn on a coarser grid where that shows no difference, which makes very smooth fields cheap.
    """
    step = max(1, int(sigma / MARGIN))
    coarse = tuple(-(-edge // step) + 2 for edge in shape)
    field = ndimage.gaussian_filter(random.standard_normal(coarse).astype(np.float32), sigma / step, mode="wrap")
    if step > 1:
        field = ndimage.zoom(field, step, order=1)
    field = field[tuple(slice(0, edge) for edge in shape)]
    return (field - field.mean()) / field.std()
