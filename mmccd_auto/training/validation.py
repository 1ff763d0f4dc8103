"""How a training is watched: losses on always the same draws, and one slice on its way through the networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.model.noise import combine_keys
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.model.strip_masks import COLUMNS, Strip, keep_mask
from mmccd_auto.training.progress import Example


@torch.no_grad()
def mean_losses(
    losses_of: Callable[[Tensor, Tensor], dict[str, Tensor]], images: Tensor, batch_size: int, seed: int
) -> dict[str, float]:
    """Compute the mean losses over ``images`` with random numbers from ``seed``; torch's generators stay as they were.

    Parameters
    ----------
    losses_of : gives the scalar losses of x, y [N, 1, H, W] by name
    images : [N, C, H, W], the input modality, and those that stand in y
    batch_size : slices per evaluation
    seed : of timesteps, masks and noise
    """
    sums: dict[str, Tensor] = {}
    devices = [images.device.index or 0] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        for part in images.split(batch_size):
            for name, loss in losses_of(part[:, :1].contiguous(), part[:, 1:].contiguous()).items():
                sums[name] = sums.get(name, 0) + loss.float() * len(part)
    return {name: float(total) / len(images) for name, total in sums.items()}


def check_finite(losses: Iterable[Mapping[str, float]], output: Path, epoch: int) -> None:
    """Make sure that the losses of an epoch are numbers.

    Raises
    ------
    MMCCDError
        If one is infinite or NaN.
    """
    if not all(math.isfinite(loss) for one in losses for loss in one.values()):
        raise MMCCDError(
            f"{output}: the losses of epoch {epoch} are not finite: continue from the last checkpoint (--continue), or "
            "train again with a smaller training.learning_rate in plans.json."
        )


@torch.no_grad()
def example_of(cycle: Reconstructor, images: Tensor, modalities: tuple[str, str], slice_axis: str, seed: int) -> Example:
    """Reconstruct the slice with most brain; a masked cycle has one strip of columns hidden in the middle of the brain.

    The images are turned for the eye: anterior is at the top of axial slices, superior at the top of the others.

    Parameters
    ----------
    cycle : in evaluation mode
    images : [N, 2, H, W], input and translation modality
    modalities : their names
    slice_axis : "axial", "coronal" or "sagittal"
    seed : of the noise
    """
    inside = images[:, 0] != BACKGROUND
    index = int(inside.sum(dim=(1, 2)).argmax())
    x, y = images[index : index + 1, :1], images[index : index + 1, 1:]
    columns = inside[index].any(dim=0).nonzero().flatten()
    middle = int(columns.float().mean()) if len(columns) else x.shape[3] // 2
    shape = (x.shape[2], x.shape[3])
    keep = keep_mask([Strip(COLUMNS, middle - cycle.strip_width // 2)], shape, cycle.strip_width, images.device)
    keys = torch.tensor([combine_keys(seed)], device=images.device)
    shown, between, reconstruction = (_as_image(one, slice_axis) for one in cycle.illustrate(x, keep, keys))
    return Example(
        modalities=modalities,
        shown=shown,
        input=_as_image(x, slice_axis),
        translation=_as_image(y, slice_axis) if cycle.translates else None,
        generated=between,
        cycled=reconstruction,
        titles=cycle.picture_titles,
    )


def _as_image(image: Tensor, slice_axis: str) -> np.ndarray:
    array = image[0, 0].float().cpu().numpy()
    return array if slice_axis == "axial" else array[::-1]
