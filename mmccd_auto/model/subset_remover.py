"""A lesion remover that looks at the other modalities of a person as well, whichever of them are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.model.block_unet import BlockUNet
from mmccd_auto.model.lesion_remover import SEEDS, USUAL_STRIP_MM, LesionRemover
from mmccd_auto.plans.plan import DiffusionPlan, NetworkPlan, Plan
from mmccd_auto.synthetic_anomalies.batched.draw import BatchedLesions, LesionBatch
from mmccd_auto.synthetic_anomalies.batched.tissues import UNKNOWN_SCALE, ModalityScale

if TYPE_CHECKING:
    from typing_extensions import Self


class SubsetRemover(LesionRemover):
    """The lesion remover with further modalities, any of which may be missing: what it takes off the input is the anomaly.

    A modality that is not there is background alone, and a channel of its own says so. In training, each slice is shown with
    some of the modalities that its case has: none to all of them, each number equally often.

    Parameters
    ----------
    network, diffusion, strip_width, patch_size : see :class:`mmccd_auto.model.reconstructor.Reconstructor`
    further : names of the modalities beside the input

    Attributes
    ----------
    network : in: the modalities, where the input's brain is, and for each further modality whether it is there; out: what is
        to be added to each modality. That of the further ones is learned for the sake of the input's, and not used.
    further_weight : of the loss in the further modalities, where that in the input weighs 1
    """

    name = "subset_remover"
    further_weight: ClassVar[float] = 0.2

    def __init__(
        self,
        network: NetworkPlan,
        diffusion: DiffusionPlan,
        strip_width: int,
        patch_size: tuple[int, int],
        further: Sequence[str] = (),
    ) -> None:
        super().__init__(network, diffusion, strip_width, patch_size)
        self.further = tuple(further)
        count = 1 + len(self.further)
        self.network = BlockUNet(in_channels=2 * count, out_channels=count)
        scales = tuple(ModalityScale(name, *UNKNOWN_SCALE) for name in ("unknown", *self.further))
        self.lesions = BatchedLesions(scales, USUAL_STRIP_MM / strip_width)

    @classmethod
    def of_plan(cls, plan: Plan, configuration: str | None = None) -> Self:
        """Build the untrained network for all modalities of the plan beside the configuration's input."""
        return cls(plan.network, plan.diffusion, plan.strip_width, plan.patch_size, further_modalities(plan, configuration))

    def restore(self, x: Tensor) -> Tensor:
        """Compute the input modality without lesions, [N, 1, H, W].

        Parameters
        ----------
        x : [N, 1 .. 1 + further, H, W]: the input modality, and behind it further ones; those that x lacks are not there
        """
        return self.restore_all(self._filled(x))[:, :1]

    def restore_all(self, images: Tensor) -> Tensor:
        """Compute all modalities without lesions, [N, 1 + further, H, W]; background stays as it is."""
        there = images != BACKGROUND
        present = there[:, 1:].any(dim=-1, keepdim=True).any(dim=-2, keepdim=True).expand_as(images[:, 1:])
        known = torch.cat([there[:, :1], present], dim=1).to(images.dtype)
        return torch.where(there, images + self.network(torch.cat([images, known], dim=1)), images)

    def training_losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the losses "restoration", of the input modality, and "further": Huber's, as for the lesion remover.

        Parameters
        ----------
        x : [N, 1, H, W], healthy slices of the input modality in the [-3, 3] scale
        y : [N, further, H, W], of the further ones, background alone where a case has none
        """
        generator = torch.Generator().manual_seed(int(torch.randint(SEEDS, ())))
        made = self.lesions.draw(torch.cat([x, y], dim=1), generator)
        kept = draw_kept(len(x), len(self.further), generator).to(x.device)
        shown = torch.cat([made.altered[:, :1], torch.where(kept, made.altered[:, 1:], BACKGROUND)], dim=1)
        weight = (shown != BACKGROUND) * torch.where(made.lesion, self.lesion_weight, 1.0)
        restored = self.restore_all(shown)
        losses = {"restoration": self.huber_loss(restored[:, :1], made.healthy[:, :1], weight[:, :1])}
        if self.further:
            losses["further"] = self.further_weight * self.huber_loss(restored[:, 1:], made.healthy[:, 1:], weight[:, 1:])
        return losses

    def illustrate(self, x: Tensor, keep: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute what the lesion remover does, of the input modality alone."""
        altered, restored, reconstruction = super().illustrate(x, keep, keys)
        return altered[:, :1], restored, reconstruction

    def _with_lesions(self, x: Tensor, seed: int) -> LesionBatch:
        return super()._with_lesions(self._filled(x), seed)

    def _filled(self, x: Tensor) -> Tensor:
        """Add background alone for the further modalities that x lacks."""
        lacking = 1 + len(self.further) - x.shape[1]
        return x if lacking == 0 else torch.cat([x, x.new_full((len(x), lacking, *x.shape[2:]), BACKGROUND)], dim=1)


def further_modalities(plan: Plan, configuration: str | None) -> tuple[str, ...]:
    """List the modalities of a plan beside a configuration's input, in the plan's order."""
    return tuple(name for name in plan.modalities if name != plan.configuration(configuration).input_modality)


def draw_kept(count: int, modalities: int, generator: torch.Generator) -> Tensor:
    """Draw which further modalities a slice is shown with, bool [count, modalities, 1, 1]; each number is equally likely."""
    numbers = torch.randint(modalities + 1, (count, 1), generator=generator)
    ranks = torch.rand(count, modalities, generator=generator).argsort(dim=1).argsort(dim=1)
    return (ranks < numbers)[:, :, None, None]
