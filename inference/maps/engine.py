"""From the slices of scans to their anomaly maps: flat batches of (scan, slice, tile, strips) through the modality cycle."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mmccd_auto.core.devices import sent_to
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.failures import failure_of
from mmccd_auto.core.processes.streams import Settled, closed_at_the_end
from mmccd_auto.core.progress import Progress
from mmccd_auto.inference.maps.precision import choose_precision
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.inference.maps.slice_maps import Item, ScanOnDevice, SliceMaps, SliceWork
from mmccd_auto.inference.maps.tiles import tile_corners
from mmccd_auto.inference.options import BFLOAT16, FLOAT32
from mmccd_auto.model.blocks import laid_out
from mmccd_auto.model.noise import combine_keys
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.model.strip_masks import Strip, all_strips, group_strips, keep_mask_of_groups

# How many scans that give no work, as those that failed, may wait for one that is worked on before them: each waits in other
# stages too.
WITHOUT_WORK = 2
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MapMaker:
    """A trained cycle and how it makes maps.

    Attributes
    ----------
    cycle : in eval mode, on ``device``
    settings : steps, strips, batch size, seed
    device : where the cycle lies
    patch_size : (rows, columns) of the network's input; larger slices are tiled with an overlap of one half
    precision : see :func:`mmccd_auto.inference.maps.precision.choose_precision`
    """

    cycle: Reconstructor
    settings: InferenceSettings
    device: torch.device
    patch_size: tuple[int, int]
    precision: str = FLOAT32


def anomaly_maps(
    maker: MapMaker,
    image: np.ndarray,
    brain: np.ndarray,
    case: str,
    *,
    slice_indices: Sequence[int] | None = None,
    description: str | None = None,
    further: np.ndarray | None = None,
) -> SliceMaps:
    """Return the anomaly maps of the slices of one scan; see :func:`stream_maps`.

    Parameters
    ----------
    maker : cycle and settings
    image, brain, case, slice_indices, further : see :class:`SliceWork`; None numbers the slices from 0
    description : shown beside the progress bar; None shows the case, an empty one no bar

    Raises
    ------
    MMCCDError
        If one slice alone does not fit into the GPU's memory, or the network gives values that are not finite.
    """
    indices = range(len(image)) if slice_indices is None else slice_indices
    work = SliceWork(case, image, brain, tuple(indices), further)
    told = case if description is None else description
    (maps,) = stream_maps(maker, [work], description=told)
    if isinstance(maps, Settled):
        raise maps.outcome
    return maps


def stream_maps(
    maker: MapMaker,
    works: Iterable[SliceWork | Settled],
    *,
    description: str = "",
    across_scans: bool | None = None,
) -> Iterator[SliceMaps | Settled]:
    """Yield the anomaly maps of scans, in their order.

    A map is a(p) = sum_m (x - x^_m)^2 (1 - k_m) / sum_m (1 - k_m) (arXiv 2308.16150).

    All (slice, tile, strips) of all scans stand in one queue, from which full batches are taken; a scan is asked for when
    the queue holds less than a batch, so memory doesn't grow with their number. A scan for which the GPU has no memory
    beside those before it waits until they are done. Every noise number depends on the slice's number, the tile, the strips
    and the seed only, so the maps depend neither on the case's name nor on the batch size nor on what is computed together
    (up to the rounding of float32, since other batch sizes make other kernels). Scans of equal slice numbers share their
    noise, those that a calibration rests on as well: it measures the very maps that a prediction makes.

    Parameters
    ----------
    maker : cycle and settings
    works : the scans' slices; what is settled already is handed on
    description : shown beside the progress bar; an empty one shows no bar
    across_scans : whether a batch may hold slices of several scans; None: on CUDA. A CPU is no faster with fuller batches,
        and a scan's map is the same to the last bit whatever other scans are predicted with it.

    Yields
    ------
    the maps of each scan; or Settled with an MMCCDError, if the scan or one of its slices alone does not fit into the GPU's
    memory, or the network gives values that are not finite; or with another error of that scan
    """
    across_scans = maker.device.type == "cuda" if across_scans is None else across_scans
    engine = _Engine(maker, across_scans)
    waiting = iter(works)
    with (
        closed_at_the_end(waiting),
        Progress(0, description or "", "evaluation", leave=False, disable=not description) as progress,
    ):
        while True:
            while engine.wants_another() and engine.open_next(waiting):
                progress.set_total(engine.passes * engine.per_item)
            if not engine.opened:
                return
            if _is_done(engine.opened[0]):
                yield engine.take()
            else:
                progress.update(engine.work_on_a_batch() * engine.per_item)


def _is_done(scan: ScanOnDevice | Settled) -> bool:
    return isinstance(scan, Settled) or not scan.left


def evaluations_per_item(cycle: Reconstructor, settings: InferenceSettings) -> int:
    """Count the network evaluations for one pass: of some strips (masked cycles) or of a slice (else)."""
    return cycle.evaluations(settings.sampling)


Array = TypeVar("Array", np.ndarray, Tensor)


class _Engine:
    """The queue of items, and how a batch of them is worked on."""

    def __init__(self, maker: MapMaker, across_scans: bool) -> None:
        cycle, settings, device, patch_size = maker.cycle, maker.settings, maker.device, maker.patch_size
        if device.type == "cuda":
            laid_out(cycle, torch.channels_last)
        self.across_scans = across_scans
        self.cycle, self.settings, self.device, self.patch_size = cycle, settings, device, patch_size
        self.precision = choose_precision(maker.precision, cycle, device, patch_size, settings.batch_size)
        self.further = len(cycle.further)
        self.hides = cycle.masked and settings.strips_per_pass > 0
        self.per_item = evaluations_per_item(cycle, settings)
        self.batch_size = settings.batch_size
        self.queue: deque[Item] = deque()
        self.opened: deque[ScanOnDevice | Settled] = deque()
        # The scan that was asked for and isn't open yet, if there is one.
        self.asked: list[SliceWork | Settled] = []
        self.passes = 0

    def wants_another(self) -> bool:
        """Check whether another scan is needed to fill a batch: not while one can be handed out, or waits for memory."""
        if self.opened and (self.asked or _is_done(self.opened[0])):
            return False
        room = len(self.queue) < (self.batch_size if self.across_scans else 1)
        return room and sum(map(_is_done, self.opened)) < WITHOUT_WORK

    def open_next(self, waiting: Iterator[SliceWork | Settled]) -> bool:
        """Open the next scan, or keep it for later if there is no memory for it yet; False where there is none left."""
        self.asked = self.asked or list(islice(waiting, 1))
        if not self.asked:
            return False
        opened = self.asked[0] if isinstance(self.asked[0], Settled) else self._open(self.asked[0])
        if opened is not None:
            self.opened.append(opened)
            self.asked.clear()
        return True

    def take(self) -> SliceMaps | Settled:
        """Return the maps of the first of the scans, which is done with, or the error that ended it.

        It is held on to no longer.
        """
        scan = self.opened.popleft()
        if isinstance(scan, Settled):
            return scan
        if scan.error is not None:
            return Settled(scan.error)
        try:
            return scan.maps(scan.passes * self.per_item)
        except Exception as error:
            return Settled(failure_of(error))

    def work_on_a_batch(self) -> int:
        """Take a batch from the queue and add what its strips give to the scans' sums; how many items are done with.

        Where the GPU's memory does not suffice, the batch goes back and the next one is half as large.
        """
        batch = [self.queue.popleft() for _ in range(min(self.batch_size, len(self.queue)))]
        try:
            self._evaluate(batch)
        except torch.cuda.OutOfMemoryError:
            done = 0
        except Exception as error:
            return self._drop({item.scan for item in batch}, failure_of(error))
        else:
            done = len(batch)
            for item in batch:
                item.scan.left -= 1
        # Here, not in the handler: an exception that is being handled holds on to the tensors of its frames.
        return done or self._give_back(batch)

    def _open(self, work: SliceWork) -> ScanOnDevice | Settled | None:
        """Put a scan's items into the queue; None where the GPU has no memory for it before the others are done."""
        opened = self._try_to_open(work)
        if opened is not None:
            return opened
        self._empty_cache()
        if self.opened:
            return None
        return self._try_to_open(work) or Settled(
            MMCCDError(
                f"{work.case}: its slices do not fit into the free memory of {self.device}: free the GPU of other work or "
                "use -device cpu."
            )
        )

    def _try_to_open(self, work: SliceWork) -> ScanOnDevice | Settled | None:
        try:
            scan = ScanOnDevice(work, tile_corners(work.image.shape[1:], self.patch_size), self.device, self.further)
            items = list(self._items(scan))
        except torch.cuda.OutOfMemoryError:
            return None
        except Exception as error:
            return Settled(failure_of(error))
        scan.passes = scan.left = len(items)
        self.passes += len(items)
        self.queue.extend(items)
        return scan

    def _items(self, scan: ScanOnDevice) -> Iterator[Item]:
        """Yield every pass of a scan; slices without brain give none."""
        work = scan.work
        for tile, (top, left) in enumerate(scan.corners):
            for position, brain in enumerate(self._tile(work.brain, top, left)):
                if not brain.any():
                    continue
                # Without the case's name: the same scan has one map, whatever its file is called.
                slice_key = combine_keys(work.indices[position], top, left, self.settings.seed)
                for strips in self._passes(brain):
                    key = combine_keys(slice_key, *(number for strip in strips for number in (strip.axis, strip.start)))
                    yield Item(scan, position, tile, strips, key, slice_key)

    def _empty_cache(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _give_back(self, batch: list[Item]) -> int:
        self._empty_cache()
        if len(batch) > 1:
            self.queue.extendleft(reversed(batch))
            self.batch_size = len(batch) // 2
            logger.warning(
                "the memory of %s is too small for batches of %d: going on with %d.",
                self.device,
                len(batch),
                self.batch_size,
            )
            return 0
        scan = batch[0].scan
        sentence = (
            f"{scan.work.case}: even one slice does not fit into the free memory of {self.device}: free the GPU of other "
            "work or use -device cpu."
        )
        return self._drop({scan}, MMCCDError(sentence))

    def _drop(self, scans: set[ScanOnDevice], error: MMCCDError | MemoryError) -> int:
        """End scans by an error; how many items are done with by that. The queue holds those that no batch has taken."""
        dropped = sum(scan.left for scan in scans)
        for scan in scans:
            scan.error, scan.left = error, 0
        self.queue = deque(item for item in self.queue if item.scan not in scans)
        return dropped

    def _passes(self, brain: np.ndarray) -> Sequence[tuple[Strip, ...]]:
        """Return the strips that each pass of a tile hides."""
        if not self.hides:
            return [()]
        settings = self.settings
        strips = all_strips(self.patch_size, settings.strip_width, settings.strip_stride, settings.coverage, brain)
        return group_strips(strips, settings.strips_per_pass, settings.strip_width, settings.strip_stride)

    def _tile(self, array: Array, top: int, left: int) -> Array:
        return array[..., top : top + self.patch_size[0], left : left + self.patch_size[1]]

    @torch.inference_mode()
    def _evaluate(self, batch: list[Item]) -> None:
        """Reconstruct a batch and add what its hidden strips give to the sums (all or nothing)."""
        tiles = [self._tile(item.scan.image[item.position], *item.scan.corners[item.tile]) for item in batch]
        shown = torch.stack(tiles)
        x = shown[:, :1]
        keep = self._keep(batch)
        hidden = 1 - keep if self.hides else torch.ones_like(keep)
        strip_keys = sent_to(self.device, torch.tensor([item.strip_key for item in batch]))
        slice_keys = sent_to(self.device, torch.tensor([item.slice_key for item in batch]))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == BFLOAT16):
            reconstruction = self.cycle.reconstruct(shown, keep, self.settings.sampling, strip_keys, slice_keys)
        reconstruction = reconstruction.float()
        error = x - reconstruction
        values = torch.cat([hidden * error**2, hidden * error, hidden * reconstruction, hidden], dim=1)
        places: dict[tuple[ScanOnDevice, int], list[int]] = {}
        for index, item in enumerate(batch):
            places.setdefault((item.scan, item.tile), []).append(index)
        additions = [(place, *self._sum_by_slice(batch, values, chosen)) for place, chosen in places.items()]
        for (scan, tile), positions, part in additions:
            self._tile(scan.sums, *scan.corners[tile]).index_add_(0, positions, part)

    def _keep(self, batch: list[Item]) -> Tensor:
        """Compute the keep masks [N, 1, H, W]: 0 where the pixel is hidden."""
        if not self.hides:
            return torch.ones((len(batch), 1, *self.patch_size), device=self.device)
        groups = [item.strips for item in batch]
        return keep_mask_of_groups(groups, self.patch_size, self.settings.strip_width, self.device)

    def _sum_by_slice(self, batch: list[Item], values: Tensor, chosen: list[int]) -> tuple[Tensor, Tensor]:
        """Compute the values of a scan's tile, summed slice by slice.

        A matrix product instead of scattered additions: those have no fixed order on a GPU.
        """
        positions = [batch[index].position for index in chosen]
        slices = sorted(set(positions))
        belongs = torch.tensor([[float(position == one) for position in positions] for one in slices], device=self.device)
        part = belongs @ values[chosen].flatten(1)
        return torch.tensor(slices, device=self.device), part.view(len(slices), *values.shape[1:])
