"""Draw what scanners do to healthy and ill tissue alike: it must not be taken for a lesion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmccd_auto.imaging.intensity_scale import BACKGROUND, UPPER_LIMIT
from mmccd_auto.synthetic_anomalies.batched.draws import Draws
from mmccd_auto.synthetic_anomalies.batched.geometry import local_mean

SHADING, SHADING_SMOOTHNESS_MM = 0.1, 27.0
GAMMA = 0.22
GAIN, OFFSET = 0.12, 0.2
NOISE = 0.35
BLURRED_SHARE, BLUR_MM = 0.3, 3.0
RIM_SHARE, RIM_BRIGHTNESS = 0.2, 3.0
RIM_MM, RIM_SMOOTHNESS_MM = 6.0, 14.0
PIVOT = 5.0
"""Above the darkest brain, which gamma leaves where it is: white matter and what is about as bright."""


@dataclass(frozen=True)
class ScannerEffects:
    """One scanner a slice, the same for the slice with lesions and without.

    Attributes
    ----------
    gain : [N, M, H, W], of intensities above the darkest brain: shading and another scale
    gamma : [N, M, 1, 1]
    added : [N, M, H, W]: an offset, noise, bright spots at the brain's rim
    blur : [N, M, 1, 1], share of the local mean
    blur_radius : px
    """

    gain: Tensor
    gamma: Tensor
    added: Tensor
    blur: Tensor
    blur_radius: int

    def apply(self, images: Tensor, brain: Tensor) -> Tensor:
        """Show slices [N, M, H, W] as these scanners would; exactly -3 outside ``brain`` (bool, same shape)."""
        above = (images - BACKGROUND).clamp(min=0)
        above = self.gain * PIVOT * (above / PIVOT) ** self.gamma
        above = above + self.blur * (local_mean(above, brain, self.blur_radius) - above)
        shown = (above + self.added + BACKGROUND).clamp(max=UPPER_LIMIT)
        return torch.where(brain, shown, BACKGROUND)


def draw_effects(brain: Tensor, spacing: float, draws: Draws) -> ScannerEffects:
    """Draw shading, scale, gamma, blur, noise and bright rims, each modality on its own.

    Parameters
    ----------
    brain : bool [N, M, H, W]
    spacing : mm per px
    draws : of N slices
    """
    count, shape = brain.shape[1], (brain.shape[2], brain.shape[3])
    shading = SHADING * draws.uniform(channels=count) * draws.smooth(shape, SHADING_SMOOTHNESS_MM / spacing, count)
    gain = torch.exp(shading + draws.uniform(-GAIN, GAIN, count))
    inside = brain.float()
    near_edge = _share_around(inside, max(1, round(RIM_MM / spacing))) < 0.85
    spots = near_edge & (draws.smooth(shape, RIM_SMOOTHNESS_MM / spacing) > 0.8) & draws.coin(RIM_SHARE)
    added = OFFSET * draws.normal(count) + RIM_BRIGHTNESS * draws.uniform(channels=count) * spots
    added = added + NOISE * draws.uniform(channels=count) * draws.white(shape, count)
    return ScannerEffects(
        gain=gain,
        gamma=torch.exp(draws.uniform(-GAMMA, GAMMA, count)),
        added=added,
        blur=draws.uniform() * draws.coin(BLURRED_SHARE),
        blur_radius=max(1, round(BLUR_MM / spacing)),
    )


def _share_around(inside: Tensor, radius: int) -> Tensor:
    """Compute the share of brain in a square of 2 ``radius`` + 1 px around each pixel; [N, M, H, W]."""
    return F.avg_pool2d(inside, 2 * radius + 1, 1, radius)
