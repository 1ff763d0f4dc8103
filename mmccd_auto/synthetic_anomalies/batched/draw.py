"""Put lesions into a batch of healthy slices, and show both as a scanner would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmccd_auto.imaging.intensity_scale import BACKGROUND, UPPER_LIMIT
from mmccd_auto.synthetic_anomalies.batched.draws import Draws
from mmccd_auto.synthetic_anomalies.batched.geometry import augmented, local_mean
from mmccd_auto.synthetic_anomalies.batched.scanner_effects import draw_effects
from mmccd_auto.synthetic_anomalies.batched.shapes import RADIUS_MM, LesionShapes, draw_shapes, pushed_away
from mmccd_auto.synthetic_anomalies.batched.tissues import ModalityScale, draw_levels, draw_signs

CHANCES = (0.6, 0.3)
"""Of a first and a second lesion of any size in a slice."""
SMALL_CHANCES = (0.5, 0.5, 0.4, 0.4, 0.3, 0.3)
"""Of small lesions beside them: several of few pixels weigh as much in the training as one large lesion."""
SMALL_RADIUS_MM = (1.5, 6.0)
KINDS = {"tissue": 0.6, "shift": 0.25, "foreign": 0.1, "detail": 0.05}
"""Shares of the lesions: another tissue, an even change, another slice's tissue, and lost detail."""
GATED_SHARE = 0.5
GATE_WIDTH = (1.0, 4.0)
CORE_SHARE, CORE_RADIUS = 0.3, (0.3, 0.8)
LESION_SHARE = (0.35, 1.0)
SHIFT = (0.4, 5.0)
FOREIGN_SHARE = (0.4, 1.0)
COARSE_TEXTURE, FINE_TEXTURE = (0.25, 4.0), (0.15, 2.0)
"""Largest deviation relative to the level, and smoothness in mm."""
DETAIL_MM = 6.0


@dataclass(frozen=True)
class LesionBatch:
    """Slices with lesions, and the same slices without.

    Attributes
    ----------
    altered, healthy : [N, M, H, W], as the same scanner shows them; background exactly -3
    lesion : bool [N, 1, H, W], inside the lesions and the brain
    """

    altered: Tensor
    healthy: Tensor
    lesion: Tensor


@dataclass(frozen=True)
class BatchedLesions:
    """Draws training examples for a network that restores healthy tissue.

    Attributes
    ----------
    scales : of the images' modalities, in their order
    spacing : mm per px
    mirror : whether columns run from right to left, so that slices may be mirrored
    radius_mm : limits of a lesion's radius
    small_radius_mm : limits of the radius of the small lesions beside them
    """

    scales: tuple[ModalityScale, ...]
    spacing: float
    mirror: bool = False
    radius_mm: tuple[float, float] = RADIUS_MM
    small_radius_mm: tuple[float, float] = SMALL_RADIUS_MM

    @torch.no_grad()
    def draw(self, images: Tensor, generator: torch.Generator) -> LesionBatch:
        """Augment healthy slices, put lesions into them, and add a scanner's effects to both.

        Parameters
        ----------
        images : float32 [N, M, H, W], registered healthy slices of the modalities of ``scales``, background exactly -3; all
            of it, in a modality that isn't there
        generator : on the CPU; its state alone decides what is drawn
        """
        with torch.autocast(images.device.type, enabled=False):
            draws = Draws(len(images), generator, images.device)
            healthy = augmented(images.float(), self.spacing, self.mirror, draws)
            altered, lesion = self.with_lesions(healthy, draws)
            altered, small = replace(self, radius_mm=self.small_radius_mm).with_lesions(altered, draws, SMALL_CHANCES)
            brain = healthy != BACKGROUND
            effects = draw_effects(brain, self.spacing, draws)
            return LesionBatch(effects.apply(altered, brain), effects.apply(healthy, brain), lesion | small)

    def with_lesions(self, healthy: Tensor, draws: Draws, chances: Sequence[float] = CHANCES) -> tuple[Tensor, Tensor]:
        """Put a lesion into a share of the slices for each of ``chances``; slices [N, M, H, W] and bool [N, 1, H, W]."""
        images, lesion = healthy.clone(), torch.zeros_like(healthy[:, :1], dtype=torch.bool)
        for chance in chances:
            (chosen,) = draws.coin(chance).flatten().nonzero(as_tuple=True)
            if len(chosen):
                altered, marked = self.one_lesion_each(images[chosen], draws.of(len(chosen)))
                images[chosen] = altered
                lesion[chosen] |= marked
        return images, lesion

    def one_lesion_each(self, images: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Put one lesion into each slice [N, M, H, W], and say where it is, bool [N, 1, H, W].

        Nothing changes outside the brain; the soft edge and a push also alter tissue around the place that is given.
        """
        brain = images != BACKGROUND
        # A modality that is not there doesn't say where the brain is.
        absent = ~brain.any(dim=(2, 3), keepdim=True)
        common = (brain | absent).all(dim=1, keepdim=True) & brain.any(dim=1, keepdim=True)
        shapes = draw_shapes(common, self.spacing, draws, self.radius_mm)
        pushed = pushed_away(images, shapes, draws)
        weight = shapes.weight * _gate(pushed, shapes, draws)
        kind = torch.multinomial(
            torch.tensor(list(KINDS.values())), draws.count, replacement=True, generator=draws.generator
        ).to(images.device)
        made = {
            "tissue": self._tissue(pushed, weight, shapes, draws),
            "shift": pushed + weight * self._shift(draws),
            "foreign": pushed + weight * self._foreign(pushed, draws),
            "detail": pushed + weight * (local_mean(pushed, brain, max(1, round(DETAIL_MM / self.spacing))) - pushed),
        }
        changed = torch.stack(list(made.values()))[kind, torch.arange(draws.count, device=images.device)]
        altered = torch.where(brain, changed.clamp(max=UPPER_LIMIT), BACKGROUND)
        return altered, (weight > 0.5) & common

    def _tissue(self, images: Tensor, weight: Tensor, shapes: LesionShapes, draws: Draws) -> Tensor:
        """Mix in another tissue, some with a core of a third one, with a texture of its own."""
        border = draws.uniform(*CORE_RADIUS)
        core = torch.sigmoid((border - shapes.distance) * shapes.radius / 0.5) * draws.coin(CORE_SHARE)
        level = draw_levels(self.scales, draws) * (1 - core) + draw_levels(self.scales, draws) * core
        shape = (images.shape[2], images.shape[3])
        texture = sum(
            draws.uniform(0, most) * draws.smooth(shape, smoothness / self.spacing)
            for most, smoothness in (COARSE_TEXTURE, FINE_TEXTURE)
        )
        level = level + texture * (level - BACKGROUND).abs().clamp(1, 5) / 3
        return images + draws.uniform(*LESION_SHARE) * weight * (level - images)

    def _shift(self, draws: Draws) -> Tensor:
        """Change all of a lesion by the same amount, by another one in each modality; [N, M, 1, 1]."""
        signs = draw_signs([scale.modality for scale in self.scales], draws)
        return signs * draws.log_uniform(*SHIFT, channels=len(self.scales))

    @staticmethod
    def _foreign(images: Tensor, draws: Draws) -> Tensor:
        """Compute the difference to the tissue that another slice of the batch has at the same place.

        0 where that has none.
        """
        other = images[draws.order()]
        return draws.uniform(*FOREIGN_SHARE) * torch.where(other != BACKGROUND, other - images, 0.0)


def _gate(images: Tensor, shapes: LesionShapes, draws: Draws) -> Tensor:
    """Let half of the lesions keep to tissue like that at their centre in one modality; 0..1, [N, 1, H, W]."""
    every = torch.arange(draws.count, device=images.device)
    seen = images[every, draws.integers(images.shape[1])][:, None]
    own = seen[every, 0, shapes.centre[:, 0], shapes.centre[:, 1]].view(-1, 1, 1, 1)
    gate = torch.exp(-(((seen - own) / draws.uniform(*GATE_WIDTH)) ** 2))
    return torch.where(draws.coin(GATED_SHARE), gate, 1.0)
