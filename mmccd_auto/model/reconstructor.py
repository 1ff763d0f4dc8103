"""What training, checkpoints and inference know of a method: it reconstructs a slice as if the tissue were healthy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from mmccd_auto.model.schedule import Spacing
from mmccd_auto.plans.plan import DiffusionPlan, NetworkPlan, Plan

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class SamplingSettings:
    """How the forward model is sampled.

    Attributes
    ----------
    steps : network evaluations per strip, 1..T
    spacing : of the timesteps, see :meth:`DiffusionSchedule.timesteps`
    share_initial_noise : all strips of a slice begin with the same y_T (as in the paper), else each with its own
    redraw_condition_noise : the noise inside the strip is drawn again at every step (as in the paper), else kept
    """

    steps: int
    spacing: Spacing
    share_initial_noise: bool
    redraw_condition_noise: bool


class Reconstructor(nn.Module, ABC):
    """One or more networks that are trained on healthy slices x, and x^ that they make of a slice.

    Each network is a direct child module: gradients are clipped for each on its own.

    Parameters
    ----------
    network : of every U-Net
    diffusion : noise schedule, for methods that diffuse
    strip_width : px
    patch_size : (rows, columns) px of the slices

    Attributes
    ----------
    name : by which checkpoints and :data:`mmccd_auto.model.cycle.CYCLES` know the method
    masked : whether the reconstruction depends on what ``keep`` hides; if not, a slice is reconstructed once, as a whole
    translates : whether the way from x to x^ leads through the translation modality
    of_planned_size : whether its networks are those of the plan, whose time the plan says
    further : modalities that it can use beside the input's, in the order of their channels; empty for most methods
    picture_titles : of what :meth:`illustrate` gives; {input} and {translation} stand for the names of the modalities
    """

    name: ClassVar[str]
    masked: ClassVar[bool]
    translates: ClassVar[bool]
    of_planned_size: ClassVar[bool] = True
    further: tuple[str, ...] = ()
    picture_titles: ClassVar[tuple[str, str, str]]

    def __init__(
        self, network: NetworkPlan, diffusion: DiffusionPlan, strip_width: int, patch_size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.strip_width = strip_width

    @classmethod
    def of_plan(cls, plan: Plan, configuration: str | None = None) -> Self:
        """Build the untrained networks that a plan asks for.

        Parameters
        ----------
        plan : of the dataset
        configuration : the modality cycle, "FLAIR-T1"; None for the plan's default
        """
        return cls(plan.network, plan.diffusion, plan.strip_width, plan.patch_size)

    def begin_epoch(self, done: float) -> None:
        """Prepare for an epoch of the training; nothing, unless a method's losses change in its course.

        Parameters
        ----------
        done : share of the epochs that lie behind, from 0 to below 1
        """

    @abstractmethod
    def training_losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return scalar losses by name, whose sum is minimised, with torch's default random numbers.

        Parameters
        ----------
        x, y : [N, 1, H, W], healthy slices of the input and the translation modality in the [-3, 3] scale; where there are
            ``further`` modalities y holds these, [N, further, H, W], background alone where a case has none
        """

    @abstractmethod
    def reconstruct(
        self, x: Tensor, keep: Tensor, sampling: SamplingSettings, strip_keys: Tensor, slice_keys: Tensor
    ) -> Tensor:
        """Compute the reconstruction x^, without gradient where the caller says so (``torch.inference_mode``).

        Parameters
        ----------
        x : [N, 1, H, W], one entry per (slice, strip); per slice for methods that aren't ``masked``. ``further`` modalities
            stand behind the input, background alone where they are not there: [N, 1 + further, H, W]
        keep : [N, 1, H, W], 0 inside the strip, see :func:`mmccd_auto.model.strip_masks.keep_mask`
        sampling : of the forward model
        strip_keys : int64 [N], noise keys of (case, slice, strip)
        slice_keys : int64 [N], noise keys of (case, slice)

        Returns
        -------
        x^ [N, 1, H, W]; it doesn't depend on how the entries are put into batches
        """

    @abstractmethod
    def evaluations(self, sampling: SamplingSettings) -> int:
        """Count the network evaluations that one entry of :meth:`reconstruct` costs, all networks together."""

    @abstractmethod
    def illustrate(self, x: Tensor, keep: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a person should see of the way from x to x^, cheaply.

        Parameters
        ----------
        x, keep : as in :meth:`reconstruct`
        keys : int64 [N], noise keys

        Returns
        -------
        What the networks are shown of x (NaN where hidden), what is between, and x^; [N, 1, H, W] each
        """
