"""Augmentation of paired slices with batchgenerators: one geometry for all modalities, intensities each on its own."""

from __future__ import annotations

import numpy as np
from batchgenerators.transforms.abstract_transforms import AbstractTransform, Compose
from batchgenerators.transforms.color_transforms import (
    BrightnessTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.spatial_transforms import MirrorTransform, SpatialTransform

from mmccd_auto.core.tuples import pair
from mmccd_auto.imaging.intensity_scale import BACKGROUND

LEFT_RIGHT_AXIS = {"axial": 1, "coronal": 1, "sagittal": None}
"""The axis of a slice [H, W] that runs from right to left (LPS, slice axis first); sagittal slices have none."""


class ShiftTransform(AbstractTransform):
    """Shifts a sample by whole pixels, all channels alike; what comes in from outside is background.

    Parameters
    ----------
    largest : px by which rows and columns are shifted at most, either way
    p_per_sample : chance that a sample is shifted
    """

    def __init__(self, largest: tuple[int, int], p_per_sample: float) -> None:
        self.largest = largest
        self.p_per_sample = p_per_sample

    def __call__(self, **batch: np.ndarray) -> dict[str, np.ndarray]:
        """Shift ``data`` and ``seg``, both [N, C, H, W]."""
        data, seg = batch["data"].copy(), batch["seg"].copy()
        for sample in range(len(data)):
            if np.random.uniform() < self.p_per_sample:  # noqa: NPY002 - the generator that all batchgenerators draw from
                by = [np.random.randint(-most, most + 1) for most in self.largest]  # noqa: NPY002
                data[sample] = shifted(data[sample], by, BACKGROUND)
                seg[sample] = shifted(seg[sample], by, 0)
        return {**batch, "data": data, "seg": seg}


class BackgroundTransform(AbstractTransform):
    """Sets every pixel outside ``seg`` to the exact background value, as preprocessing does."""

    def __call__(self, **batch: np.ndarray) -> dict[str, np.ndarray]:
        """Return ``data`` and ``seg``, both [N, C, H, W]; ``seg`` is 0 outside the modality's brain."""
        return {**batch, "data": np.where(batch["seg"] > 0, batch["data"], np.float32(BACKGROUND))}


def shifted(image: np.ndarray, by: list[int], fill: float) -> np.ndarray:
    """Compute ``image`` [C, H, W] moved by ``by`` (rows, columns) px, with ``fill`` where nothing came from."""
    result = np.full_like(image, fill)
    source, target = [slice(None)], [slice(None)]
    for offset, size in zip(by, image.shape[1:], strict=True):
        source.append(slice(max(0, -offset), min(size, size - offset)))
        target.append(slice(max(0, offset), min(size, size + offset)))
    result[tuple(target)] = image[tuple(source)]
    return result


def default_augmentation(patch_size: tuple[int, int], slice_axis: str) -> Compose:
    """Make mild augmentation; the published method has none.

    About half of the samples are turned (up to 6 degrees) or scaled (up to 7 %), half are shifted (up to 5 % of the
    patch), half are mirrored where the slice has a left and a right, and a few are changed in contrast, brightness and
    gamma, each modality on its own, as scanners differ. Nothing is bent elastically: the width of a cortex or a ventricle
    is what the model is to learn.

    Parameters
    ----------
    patch_size : (rows, columns) px of the samples
    slice_axis : "axial", "coronal" or "sagittal"

    Returns
    -------
    A transform of ``data`` float32 [N, C, H, W] and ``seg`` [N, C, H, W] (above 0 inside each modality's own brain).
    """
    mirror_axis = LEFT_RIGHT_AXIS[slice_axis]
    return Compose(
        [
            SpatialTransform(
                tuple(patch_size),
                do_elastic_deform=False,
                angle_x=(-0.1, 0.1),
                scale=(0.93, 1.07),
                order_data=1,
                border_mode_data="constant",
                border_cval_data=BACKGROUND,
                random_crop=False,
                p_rot_per_sample=0.3,
                p_scale_per_sample=0.3,
            ),
            ShiftTransform(pair(round(0.05 * edge) for edge in patch_size), p_per_sample=0.5),
            *([] if mirror_axis is None else [MirrorTransform(axes=(mirror_axis,))]),
            ContrastAugmentationTransform((0.9, 1.1), preserve_range=False, p_per_sample=0.2),
            BrightnessTransform(mu=0, sigma=0.1, p_per_sample=0.2),
            GammaTransform((0.9, 1.1), per_channel=True, p_per_sample=0.2),
            BackgroundTransform(),
        ]
    )
