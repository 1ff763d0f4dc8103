"""The trainers of the package: the method and its baselines."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from mmccd_auto.model.cycle import CyclicUNet, MaskedModalityCycle, PublishedModalityCycle
from mmccd_auto.model.denoising_autoencoder import DenoisingAutoencoder
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.plans.plan import Plan
from mmccd_auto.training.budget.learning_rate import half_cosine
from mmccd_auto.training.trainer import Trainer


class MMCCDTrainer(Trainer):
    """Masked modality cycle with conditional diffusion (Liang et al., 2023), trained for what inference does with it."""

    cycle_class: ClassVar[type[Reconstructor]] = MaskedModalityCycle


class MMCCDPublishedTrainer(Trainer):
    """Masked modality cycle with conditional diffusion, its losses to the letter of the paper."""

    cycle_class: ClassVar[type[Reconstructor]] = PublishedModalityCycle


class CyclicUNetTrainer(Trainer):
    """The paper's baseline: both directions by a deterministic U-Net, without masks."""

    cycle_class: ClassVar[type[Reconstructor]] = CyclicUNet


class DAETrainer(Trainer):
    """Denoising autoencoder (Kascenas et al., 2022): learns from the input modality alone, one network evaluation a slice.

    Its slices are those that the cycles are trained on, so that the methods can be compared.
    """

    cycle_class: ClassVar[type[Reconstructor]] = DenoisingAutoencoder


class _Short(Trainer):
    """What makes a training of an hour or less worth its while.

    The published optimiser settings (AdamW at a constant 1e-4, 100 000 iterations) assume days on a GPU. In a few thousand
    iterations they leave the networks half-trained, so these variants use small batches, for more steps per hour, and a
    learning rate that begins ten times higher and falls to nothing by half a cosine.
    """

    largest_batch: ClassVar[int] = 16
    peak_learning_rate: ClassVar[float] = 1e-3
    # The learning rate ends at 0, so that the last state is the best one; and judging takes minutes on a CPU.
    judgements = 0

    def __init__(self, plan: Plan, *args: Any, **options: Any) -> None:
        batch_size = min(plan.training.batch_size, self.largest_batch)
        super().__init__(replace(plan, training=replace(plan.training, batch_size=batch_size)), *args, **options)

    def learning_rate(self, epoch: int) -> float:
        """Half a cosine from the peak to (nearly) 0 at the last epoch."""
        return half_cosine(self.peak_learning_rate, epoch, self.settings.num_epochs)


class MMCCDTrainerShort(_Short, MMCCDTrainer):
    """MMCCD for a training of an hour or less, on a CPU for instance."""


class MMCCDPublishedTrainerShort(_Short, MMCCDPublishedTrainer):
    """MMCCD with the published losses, for a training of an hour or less, on a CPU for instance."""


class CyclicUNetTrainerShort(_Short, CyclicUNetTrainer):
    """Cyclic U-Net for a training of an hour or less, on a CPU for instance."""


class DAETrainerShort(_Short, DAETrainer):
    """The denoising autoencoder for a training of an hour or less, on a CPU for instance."""
