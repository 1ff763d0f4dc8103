"""A network that restores healthy slices into which synthetic lesions were put: what it takes off a scan is the anomaly.

Networks that learn to undo synthetic anomalies: FPI (Tan et al., arXiv 2011.04197, 2020), DISYRE (Naval Marimont et al.,
arXiv 2311.15453, 2023). The lesions here follow MR signal equations, see :mod:`mmccd_auto.synthetic_anomalies.batched`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.model.block_unet import BlockUNet
from mmccd_auto.model.reconstructor import Reconstructor, SamplingSettings
from mmccd_auto.plans.plan import DiffusionPlan, NetworkPlan
from mmccd_auto.synthetic_anomalies.batched.draw import BatchedLesions, LesionBatch
from mmccd_auto.synthetic_anomalies.batched.tissues import UNKNOWN_SCALE, ModalityScale

USUAL_STRIP_MM = 30.0
SEEDS = 2**62


class LesionRemover(Reconstructor):
    """One small U-Net that is shown a slice and its brain, and says what to take off; x^ is the slice without that.

    The network is the same whatever the plan's is: 0.23 million parameters.

    Attributes
    ----------
    network : two channels in (slice, brain), one out (what is to be added to the slice)
    lesions : draws the training examples. A trainer, who knows the modality and its scale, replaces these, which are for a
        modality that isn't known and for pixels of a strip's usual 30 mm / ``strip_width``. Not needed to reconstruct.
    lesion_weight : of a pixel inside a lesion, where one outside weighs 1
    tolerance : below it errors count by their square, above it by their size. Of a fresh remover, and from the middle of a
        training on, the smaller one of ``tolerances``, with which the loss is nearly the absolute error
    """

    name = "lesion_remover"
    masked = False
    translates = False
    of_planned_size = False
    picture_titles = ("{input}, with lesions", "{input}, lesions removed", "{input}, reconstructed")
    lesion_weight: ClassVar[float] = 5.0
    # By absolute errors a fresh remover, which takes off nothing, stays on a plateau where lesions are hard to see (T1): the
    # median of what it should take off is 0. By squared errors it learns at once, but blurs what it takes off.
    tolerances: ClassVar[tuple[float, float]] = (2.0, 0.05)

    def __init__(
        self, network: NetworkPlan, diffusion: DiffusionPlan, strip_width: int, patch_size: tuple[int, int]
    ) -> None:
        super().__init__(network, diffusion, strip_width, patch_size)
        self.network = BlockUNet(in_channels=2, out_channels=1)
        self.tolerance = self.tolerances[1]
        self.lesions = BatchedLesions((ModalityScale("unknown", *UNKNOWN_SCALE),), USUAL_STRIP_MM / strip_width)

    def restore(self, x: Tensor) -> Tensor:
        """Compute x without lesions; x [N, 1, H, W], whose background stays as it is."""
        brain = x != BACKGROUND
        return torch.where(brain, x + self.network(torch.cat([x, brain.to(x.dtype)], dim=1)), x)

    def begin_epoch(self, done: float) -> None:
        """Lower the tolerance from the larger to the smaller one in the first half of a training, by equal factors."""
        first, last = self.tolerances
        self.tolerance = first * (last / first) ** min(1.0, 2 * done)

    def training_losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the loss "restoration": Huber's error in the brain, lesions weighing five times as much; y doesn't matter.

        Lesions are drawn from a generator of their own, seeded by one number of torch's default one.

        Parameters
        ----------
        x, y : [N, 1, H, W], healthy slices of the input and the translation modality in the [-3, 3] scale
        """
        shown = self._with_lesions(x, int(torch.randint(SEEDS, ())))
        weight = (shown.altered != BACKGROUND) * torch.where(shown.lesion, self.lesion_weight, 1.0)
        return {"restoration": self.huber_loss(self.restore(shown.altered), shown.healthy, weight)}

    def huber_loss(self, restored: Tensor, healthy: Tensor, weight: Tensor) -> Tensor:
        """Compute the weighted mean of Huber's error.

        It is divided by the tolerance, so that large errors count by their size. Its value is that of the smallest
        tolerance, so that epochs can be compared, its gradient that of the tolerance.

        Parameters
        ----------
        restored, healthy, weight : of one shape; where the weight is 0, nothing counts
        """

        def loss(tolerance: float) -> Tensor:
            error = F.huber_loss(restored, healthy, reduction="none", delta=tolerance) / tolerance
            return (weight * error).sum() / weight.sum().clamp(min=1)

        minimised = loss(self.tolerance)
        return loss(self.tolerances[1]).detach() + minimised - minimised.detach()

    def reconstruct(
        self, x: Tensor, keep: Tensor, sampling: SamplingSettings, strip_keys: Tensor, slice_keys: Tensor
    ) -> Tensor:
        """Compute x^ of the whole x; what would be hidden, the sampling and the noise keys don't matter."""
        return self.restore(x)

    def evaluations(self, sampling: SamplingSettings) -> int:
        """Count one network evaluation."""
        return 1

    def illustrate(self, x: Tensor, keep: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute x as a scanner might show it with lesions of ``keys``, that without the lesions, and x^ of x as it is."""
        altered = torch.cat([self._with_lesions(x[[place]], int(key)).altered for place, key in enumerate(keys)])
        return altered, self.restore(altered), self.restore(x)

    def _with_lesions(self, x: Tensor, seed: int) -> LesionBatch:
        return self.lesions.draw(x, torch.Generator().manual_seed(seed))
