"""The trainers of the package: the method and its deterministic baseline."""

from __future__ import annotations

from typing import ClassVar

from mmccd_auto.model.cycle import Cycle, CyclicUNet, MaskedModalityCycle
from mmccd_auto.training.trainer import Trainer


class MMCCDTrainer(Trainer):
    """Masked modality cycle with conditional diffusion (Liang et al., 2023)."""

    cycle_class: ClassVar[type[Cycle]] = MaskedModalityCycle


class CyclicUNetTrainer(Trainer):
    """The paper's baseline: both directions by a deterministic U-Net, without masks."""

    cycle_class: ClassVar[type[Cycle]] = CyclicUNet
