"""From the slices of one scan to its anomaly maps: flat batches of (slice, tile, strip) through the modality cycle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mmccd_auto.errors import MMCCDError
from mmccd_auto.inference.settings import InferenceSettings
from mmccd_auto.inference.tiles import tile_corners
from mmccd_auto.model.noise import combine_keys
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.model.strip_masks import Strip, all_strips, keep_mask

PRECISIONS = ("auto", "float32", "bfloat16")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SliceMaps:
    """What the cycle could not explain, on the slices' own grid; all float32 [S, H, W], 0 outside the brain and never NaN.

    Attributes
    ----------
    squared : mean of (x - x^)^2 over the strips that hid the pixel: the published score, >= 0
    signed : mean of x - x^; above 0 where the scan is brighter than its cycle
    cycle : mean of x^, on the scale of the normalised scan
    coverage : number of strips that hid the pixel
    network_evaluations : forward and backward network together, for one slice or tile each
    """

    squared: np.ndarray
    signed: np.ndarray
    cycle: np.ndarray
    coverage: np.ndarray
    network_evaluations: int


@dataclass(frozen=True)
class _Item:
    """One network input: a tile of a slice with a hidden strip (None: nothing is hidden, the whole tile counts)."""

    position: int
    tile: int
    strip: Strip | None


def anomaly_maps(
    cycle: Reconstructor,
    image: np.ndarray,
    brain: np.ndarray,
    settings: InferenceSettings,
    case: str,
    device: torch.device,
    patch_size: tuple[int, int],
    *,
    precision: str = "float32",
    slice_indices: Sequence[int] | None = None,
    description: str | None = None,
) -> SliceMaps:
    """The anomaly maps a(p) = sum_m (x - x^_m)^2 (1 - k_m) / sum_m (1 - k_m) of the slices of one scan (arXiv 2308.16150).

    Every noise number depends on the case's name, the slice, the strip and the seed only, so the maps don't depend on the
    batch size or on which slices are given together.

    Parameters
    ----------
    cycle : in eval mode, on ``device``
    image : float32 [S, H, W], normalised slices of the input modality; H and W at least the patch
    brain : bool [S, H, W]
    settings : steps, strips, batch size, seed
    case : name of the case
    device : where the cycle lies
    patch_size : (rows, columns) of the network's input; larger slices are tiled with an overlap of one half
    precision : "float32", "bfloat16" (autocast, CUDA only) or "auto" (bfloat16 on CUDA, else float32)
    slice_indices : the slices' numbers in the volume; None counts them from 0
    description : shown beside the progress bar; None shows the case, an empty one no bar

    Raises
    ------
    MMCCDError
        If one slice alone does not fit into the GPU's memory, or the network gives values that are not finite.
    """
    if image.shape != brain.shape or image.ndim != 3:
        raise ValueError(f"image {image.shape} and brain {brain.shape} must both be [S, H, W]")
    work = _Work(cycle, image, brain, settings, case, device, patch_size, precision, slice_indices)
    per_item = evaluations_per_item(cycle, settings)
    batch_size, done = settings.batch_size, 0
    with tqdm(
        total=len(work.items) * per_item,
        desc=description or case,
        unit="evaluation",
        leave=False,
        disable=description == "",
    ) as progress:
        while done < len(work.items):
            batch = work.items[done : done + batch_size]
            if not _fits(work, batch):
                batch_size = _halved(len(batch), device)
                continue
            done += len(batch)
            progress.update(len(batch) * per_item)
    return work.maps(len(work.items) * per_item)


def evaluations_per_item(cycle: Reconstructor, settings: InferenceSettings) -> int:
    """Network evaluations for one strip (masked cycles) or slice (else)."""
    return cycle.evaluations(settings.sampling)


def _fits(work: _Work, batch: list[_Item]) -> bool:
    """Evaluate a batch; False if the GPU's memory did not suffice (nothing has been summed up then)."""
    try:
        work.evaluate(batch)
    except torch.cuda.OutOfMemoryError:
        return False
    return True


def _halved(batch_size: int, device: torch.device) -> int:
    if batch_size == 1:
        raise MMCCDError(
            f"even one slice does not fit into the free memory of {device}: free the GPU of other work or use -device cpu."
        )
    if device.type == "cuda":
        torch.cuda.empty_cache()
    logger.warning("the memory of %s is too small for batches of %d: going on with %d.", device, batch_size, batch_size // 2)
    return batch_size // 2


class _Work:
    """One scan on the device: its items, and the sums that the batches add to."""

    def __init__(
        self,
        cycle: Reconstructor,
        image: np.ndarray,
        brain: np.ndarray,
        settings: InferenceSettings,
        case: str,
        device: torch.device,
        patch_size: tuple[int, int],
        precision: str,
        slice_indices: Sequence[int] | None,
    ) -> None:
        self.cycle, self.settings, self.device, self.patch_size = cycle, settings, device, tuple(patch_size)
        self.autocast = uses_bfloat16(precision, device)
        self.case = case
        self.brain = brain
        self.slice_indices = list(range(len(image)) if slice_indices is None else slice_indices)
        self.corners = tile_corners(image.shape[1:], self.patch_size)
        self.items = self._items()
        if device.type == "cuda":
            cycle.to(memory_format=torch.channels_last)
        self.image = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).to(device)
        self.sums = torch.zeros((len(image), 4, *image.shape[1:]), device=device)

    def _items(self) -> list[_Item]:
        items = []
        for tile, (top, left) in enumerate(self.corners):
            for position, brain in enumerate(self._tile(self.brain, top, left)):
                if brain.any():
                    items += [_Item(position, tile, strip) for strip in self._strips(brain)]
        return items

    def _strips(self, brain: np.ndarray) -> Sequence[Strip | None]:
        if not self.cycle.masked:
            return [None]
        settings = self.settings
        return all_strips(self.patch_size, settings.strip_width, settings.strip_stride, settings.coverage, brain)

    def _tile(self, array: np.ndarray | Tensor, top: int, left: int) -> np.ndarray | Tensor:
        return array[..., top : top + self.patch_size[0], left : left + self.patch_size[1]]

    @torch.inference_mode()
    def evaluate(self, batch: list[_Item]) -> None:
        """Reconstruct a batch and add what its hidden strips tell to the sums (all or nothing)."""
        x = torch.stack([self._tile(self.image[item.position], *self.corners[item.tile]) for item in batch])[:, None]
        keep = self._keep(batch)
        strip_keys, slice_keys = self._keys(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            reconstruction = self.cycle.reconstruct(x, keep, self.settings.sampling, strip_keys, slice_keys)
        reconstruction = reconstruction.float()
        error = x - reconstruction
        hidden = 1 - keep
        values = torch.cat([hidden * error**2, hidden * error, hidden * reconstruction, hidden], dim=1)
        additions = [self._sum_by_slice(batch, values, tile) for tile in sorted({item.tile for item in batch})]
        for tile, positions, part in additions:
            self._tile(self.sums, *self.corners[tile]).index_add_(0, positions, part)

    def _keep(self, batch: list[_Item]) -> Tensor:
        """The keep masks [N, 1, H, W]: 0 where the pixel is hidden, and everywhere for cycles that hide nothing."""
        if not self.cycle.masked:
            return torch.zeros((len(batch), 1, *self.patch_size), device=self.device)
        return keep_mask([item.strip for item in batch], self.patch_size, self.settings.strip_width, self.device)

    def _keys(self, batch: list[_Item]) -> tuple[Tensor, Tensor]:
        """Keys of the noise that belongs to a strip and of the noise that all strips of a slice share; int64 [N]."""
        seed = self.settings.seed
        slice_keys = [
            combine_keys(self.case, self.slice_indices[item.position], *self.corners[item.tile], seed) for item in batch
        ]
        strip_keys = [
            key if item.strip is None else combine_keys(key, item.strip.axis, item.strip.start)
            for key, item in zip(slice_keys, batch, strict=True)
        ]
        return torch.tensor(strip_keys, device=self.device), torch.tensor(slice_keys, device=self.device)

    def _sum_by_slice(self, batch: list[_Item], values: Tensor, tile: int) -> tuple[int, Tensor, Tensor]:
        """The batch's values of one tile, summed slice by slice.

        A matrix product instead of scattered additions: those have no fixed order on a GPU.
        """
        chosen = [index for index, item in enumerate(batch) if item.tile == tile]
        positions = torch.tensor([batch[index].position for index in chosen], device=self.device)
        slices = torch.unique(positions)
        belongs = (slices[:, None] == positions[None, :]).to(values.dtype)
        part = belongs @ values[chosen].flatten(1)
        return tile, slices, part.view(len(slices), *values.shape[1:])

    def maps(self, network_evaluations: int) -> SliceMaps:
        """The sums divided by how often each pixel was hidden."""
        squared, signed, cycle, coverage = self.sums.cpu().numpy().transpose(1, 0, 2, 3)
        if not all(np.isfinite(array).all() for array in (squared, signed, cycle)):
            raise MMCCDError(
                f"the network gave values that are not finite for {self.case}: look at the scan's intensities and at the "
                "training's log; with precision bfloat16, try float32."
            )
        seen = self.brain & (coverage > 0)
        divisor = np.where(seen, coverage, 1).astype(np.float32)
        means = (np.where(seen, array / divisor, 0).astype(np.float32) for array in (squared, signed, cycle))
        return SliceMaps(*means, np.where(self.brain, coverage, 0).astype(np.float32), network_evaluations)


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether the networks run in bfloat16 autocast.

    Raises
    ------
    MMCCDError
        If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise MMCCDError(f"precision {precision} is none of {', '.join(PRECISIONS)}.")
    return device.type == "cuda" and precision != "float32"
