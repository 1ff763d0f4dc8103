"""The slices of one scan, what is summed of them on the device, and the maps that the sums become."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mmccd_auto.core.devices import sent_to
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.model.strip_masks import Strip


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
class SliceWork:
    """The slices of one scan, to be sent through a cycle.

    Attributes
    ----------
    case : name of the case, for errors; the noise does not depend on it
    image : float32 [S, H, W], normalised slices of the input modality; H and W at least the patch
    brain : bool [S, H, W]
    indices : the slices' numbers in the volume; the noise depends on them
    further : float32 [S, K, H, W], normalised slices of the other modalities that the cycle can use, background where one is
        not there; None: none is there
    """

    case: str
    image: np.ndarray
    brain: np.ndarray
    indices: tuple[int, ...]
    further: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.image.shape != self.brain.shape or self.image.ndim != 3 or len(self.indices) != len(self.image):
            raise ValueError(f"image {self.image.shape} and brain {self.brain.shape} must both be [S, H, W], with S indices")
        if self.further is not None and (self.further.shape[0], *self.further.shape[2:]) != self.image.shape:
            raise ValueError(f"the further modalities {self.further.shape} must be [S, K, H, W] of {self.image.shape}")

    def of_slices(self, places: Sequence[int]) -> SliceWork:
        """Select the slices at these positions."""
        further = None if self.further is None else self.further[places]
        indices = tuple(self.indices[place] for place in places)
        return replace(self, image=self.image[places], brain=self.brain[places], indices=indices, further=further)

    def shown_with(self, channels: Collection[int]) -> SliceWork:
        """Return the same slices with these of the further modalities alone."""
        if self.further is None or not channels:
            return replace(self, further=None)
        further = np.full_like(self.further, BACKGROUND)
        further[:, list(channels)] = self.further[:, list(channels)]
        return replace(self, further=further)

    def channels(self, count: int) -> np.ndarray:
        """Stack the input modality and ``count`` further ones, float32 [S, 1 + count, H, W]; background where one lacks."""
        shown = self.image[:, None]
        if count:
            shape = (len(self.image), count, *self.image.shape[1:])
            further = np.full(shape, BACKGROUND, dtype=np.float32) if self.further is None else self.further
            shown = np.concatenate([shown, further], axis=1)
        return np.ascontiguousarray(shown, dtype=np.float32)


@dataclass(frozen=True)
class Item:
    """One network input: a tile of a slice with hidden strips (none: nothing is hidden, the whole tile counts).

    ``strip_key`` and ``slice_key`` are those of the noise that belongs to the strips, and of what all strips share.
    """

    scan: ScanOnDevice
    position: int
    tile: int
    strips: tuple[Strip, ...]
    strip_key: int
    slice_key: int


class ScanOnDevice:
    """One scan on the device: its slices, the sums that the batches add to, and how many passes are left.

    The slices are float32 [S, 1 + further, H, W]: ``further`` modalities stand behind the input.
    """

    def __init__(self, work: SliceWork, corners: list[tuple[int, int]], device: torch.device, further: int = 0) -> None:
        self.work, self.corners = work, corners
        image = torch.from_numpy(work.channels(further))
        self.image = sent_to(device, image)
        self.sums = torch.zeros((len(image), 4, *image.shape[2:]), device=device)
        self.passes = self.left = 0
        self.error: MMCCDError | MemoryError | None = None

    def maps(self, network_evaluations: int) -> SliceMaps:
        """Return the sums divided by how often each pixel was hidden."""
        squared, signed, cycle, coverage = self.sums.cpu().numpy().transpose(1, 0, 2, 3)
        if not all(np.isfinite(array).all() for array in (squared, signed, cycle)):
            raise MMCCDError(
                f"the network gave values that are not finite for {self.work.case}: look at the scan's intensities and at "
                "the training's log; with precision bfloat16, try float32."
            )
        seen = self.work.brain & (coverage > 0)
        divisor = np.where(seen, coverage, 1).astype(np.float32)
        squared, signed, cycle = (
            np.where(seen, array / divisor, 0).astype(np.float32) for array in (squared, signed, cycle)
        )
        coverage = np.where(self.work.brain, coverage, 0).astype(np.float32)
        return SliceMaps(squared, signed, cycle, coverage, network_evaluations)


@dataclass(frozen=True)
class CaseMaps:
    """Slices of one case, and how the cycle failed on them.

    Attributes
    ----------
    case, subject : whom it shows
    indices : of the slices in the volume, ascending
    spacing : mm between slices, rows and columns
    maps : of the slices
    brain : bool [S, H, W]
    known_abnormal : bool [S, H, W], where a calibration counts nothing; None: nothing is known to be abnormal
    """

    case: str
    subject: str
    indices: tuple[int, ...]
    spacing: tuple[float, float, float]
    maps: SliceMaps
    brain: np.ndarray
    known_abnormal: np.ndarray | None = None

    @property
    def healthy(self) -> np.ndarray:
        """Pixels of the brain that count as healthy, bool [S, H, W]."""
        return self.brain if self.known_abnormal is None else self.brain & ~self.known_abnormal

    def without_abnormal(self, abnormal: np.ndarray) -> CaseMaps:
        """Return the maps of which a calibration leaves out what is known to be abnormal.

        Parameters
        ----------
        abnormal : bool [S, H, W]
        """
        return replace(self, known_abnormal=abnormal)

    def of_slices(self, places: slice | Sequence[int]) -> CaseMaps:
        """Return the slices at these positions, ascending."""
        fields = {name: getattr(self.maps, name)[places] for name in ("squared", "signed", "cycle", "coverage")}
        return replace(
            self,
            indices=tuple(np.array(self.indices)[places].tolist()),
            maps=SliceMaps(**fields, network_evaluations=self.maps.network_evaluations),
            brain=self.brain[places],
            known_abnormal=None if self.known_abnormal is None else self.known_abnormal[places],
        )
