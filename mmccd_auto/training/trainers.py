"""The trainers of the package: the method, its baselines, and the lesion removers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.plugins import find_subclass
from mmccd_auto.model.cycle import CYCLES, CyclicUNet, MaskedModalityCycle, PublishedModalityCycle
from mmccd_auto.model.denoising_autoencoder import DenoisingAutoencoder
from mmccd_auto.model.lesion_remover import LesionRemover
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.model.subset_remover import SubsetRemover, further_modalities
from mmccd_auto.plans.plan import Plan, ScorePlan, TrainingPlan
from mmccd_auto.synthetic_anomalies.batched.draw import BatchedLesions
from mmccd_auto.trained.checkpoint import Checkpoint
from mmccd_auto.training.budget.learning_rate import half_cosine, one_cycle
from mmccd_auto.training.data.augmentation import LEFT_RIGHT_AXIS
from mmccd_auto.training.data.modality_scales import measure_scales
from mmccd_auto.training.trainer import Trainer

DEFAULT_TRAINER = "MMCCDTrainer"


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
        """Compute half a cosine from the peak to (nearly) 0 at the last epoch."""
        return half_cosine(self.peak_learning_rate, epoch, self.settings.num_epochs)


class MMCCDTrainerShort(_Short, MMCCDTrainer):
    """MMCCD for a training of an hour or less, on a CPU for instance."""


class MMCCDPublishedTrainerShort(_Short, MMCCDPublishedTrainer):
    """MMCCD with the published losses, for a training of an hour or less, on a CPU for instance."""


class CyclicUNetTrainerShort(_Short, CyclicUNetTrainer):
    """Cyclic U-Net for a training of an hour or less, on a CPU for instance."""


class DAETrainerShort(_Short, DAETrainer):
    """The denoising autoencoder for a training of an hour or less, on a CPU for instance."""


class MMCCDTrainerLesionRemover(Trainer):
    """A small network that restores slices with synthetic lesions in them: minutes on a CPU, whatever the plan's budget.

    It needs the input modality only; the slices are those that the cycles are trained on, so that the methods can be
    compared and averaged. It is shown at most 24 000 slices in batches of 16 at most, and never more slices than the plan
    shows the cycle's two networks, each of which costs more a slice.
    """

    cycle_class: ClassVar[type[Reconstructor]] = LesionRemover
    most_slices: ClassVar[int] = 24_000
    largest_batch: ClassVar[int] = 16
    most_iterations_per_epoch: ClassVar[int] = 50
    least_epochs: ClassVar[int] = 10
    peak_learning_rate: ClassVar[float] = 2e-3
    # What a finished model knows would be lost at the peak of a new one.
    fine_tuning_share: ClassVar[float] = 0.25
    weight_decay: ClassVar[float] = 1e-4
    # What it takes off wrongly is rare and large in the sign of lesions, frequent and small in the other one, which would
    # decide the score in units of what is rare: small lesions were lost below it.
    other_weight: ClassVar[float] = 0.0
    # Of the score without a network, where most lesions are brighter: what both mark is more often a lesion. On T1 it finds
    # next to nothing, and would hide what the remover finds.
    control_weight: ClassVar[float] = 0.5
    # The learning rate ends at 0, so that the last state is the best one.
    judgements = 0

    def __init__(self, plan: Plan, *args: Any, **options: Any) -> None:
        configurations = {name: replace(one, score=self._score(one.score)) for name, one in plan.configurations.items()}
        training = self._short(plan.training)
        super().__init__(replace(plan, training=training, configurations=configurations), *args, **options)

    @classmethod
    def _score(cls, planned: ScorePlan) -> ScorePlan:
        joined = cls.control_weight if planned.lesion_sign == "brighter" else 0.0
        return replace(planned, other_weight=cls.other_weight, control_weight=joined)

    @classmethod
    def _short(cls, planned: TrainingPlan) -> TrainingPlan:
        batch = min(planned.batch_size, cls.largest_batch)
        shown = min(cls.most_slices, planned.batch_size * planned.iterations_per_epoch * planned.num_epochs)
        iterations = max(1, shown // batch)
        per_epoch = max(1, min(cls.most_iterations_per_epoch, iterations // cls.least_epochs))
        return replace(
            planned,
            batch_size=batch,
            iterations_per_epoch=per_epoch,
            num_epochs=iterations // per_epoch,
            weight_decay=cls.weight_decay,
        )

    def build_cycle(self) -> Reconstructor:
        """Build the untrained remover, whose lesions fit the input modality of the training cases and the plan's pixels."""
        remover = super().build_cycle()
        if not isinstance(remover, LesionRemover):
            raise TypeError(f"{type(self).__name__} trains a LesionRemover, not a {type(remover).__name__}")
        remover.lesions = BatchedLesions(
            measure_scales(self.preprocessed, self.data.training, self.shown[: 1 + len(remover.further)]),
            self.plan.target_spacing,
            mirror=LEFT_RIGHT_AXIS[self.plan.slice_axis] is not None,
        )
        return remover

    def learning_rate(self, epoch: int) -> float:
        """Compute one cycle: up to the peak in the first tenth of the epochs, and down to (nearly) 0 at the last one."""
        peak = self.peak_learning_rate * (1.0 if self.start is None else self.fine_tuning_share)
        return one_cycle(peak, epoch, self.settings.num_epochs)

    def augmentation(self) -> None:
        """Return None: slices are augmented in batches where the lesions are drawn."""
        return None


class MMCCDTrainerSubsetRemover(MMCCDTrainerLesionRemover):
    """The lesion remover that also looks at the other modalities of the dataset, where a scan has them: any subset.

    Its slices are those of the configuration, so that the methods can be compared; cases may lack the other modalities.
    """

    cycle_class: ClassVar[type[Reconstructor]] = SubsetRemover

    @property
    def shown(self) -> tuple[str, ...]:
        """The input modality, and all others of the plan."""
        return (self.modalities[0], *further_modalities(self.plan, self.configuration))


def find_trainer(name: str = DEFAULT_TRAINER, folders: Sequence[Path] = ()) -> type[Trainer]:
    """Find the trainer class of this name.

    Parameters
    ----------
    name : class name
    folders : outside the package, with .py files that define trainers

    Raises
    ------
    MMCCDError
        If there is none (the message lists those there are), or it doesn't say which cycle it trains.

    Examples
    --------
    >>> find_trainer("CyclicUNetTrainer").cycle_class.__name__
    'CyclicUNet'
    """
    found = find_subclass(Trainer, name, ["mmccd_auto.training.trainers"], folders)
    if not hasattr(found, "cycle_class"):
        raise MMCCDError(f"the trainer {name} names no cycle: derive it from {DEFAULT_TRAINER}, or give it a cycle_class.")
    return found


def cycle_class_of(checkpoint: Checkpoint, folders: Sequence[Path] = ()) -> type[Reconstructor]:
    """Return the class of a checkpoint's cycle: the package's own, or else that of its trainer, looked for in ``folders``.

    Raises
    ------
    MMCCDError
        If neither is known.
    """
    if checkpoint.method in CYCLES:
        return CYCLES[checkpoint.method]
    return find_trainer(checkpoint.trainer, folders).cycle_class
