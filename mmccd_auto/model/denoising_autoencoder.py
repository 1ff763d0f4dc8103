"""The denoising autoencoder of Kascenas, Pugeault and O'Neil (2022): a network that takes coarse noise off healthy slices.

"Denoising Autoencoders for Unsupervised Anomaly Detection in Brain MRI", Medical Imaging with Deep Learning 2022,
https://openreview.net/forum?id=Bm8-t_ggzPD. A lesion is to such a network what the noise is: a blob of unusual intensity.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.model.reconstructor import Reconstructor, SamplingSettings
from mmccd_auto.model.unet import UNet
from mmccd_auto.plans.plan import DiffusionPlan, NetworkPlan

CELLS_PER_STRIP_WIDTH = 2


def coarse_noise(count: int, shape: tuple[int, int], cell: float, generator: torch.Generator | None = None) -> Tensor:
    """Compute the blobs of noise.

    Independent N(0, 1) numbers on a coarse grid, bilinear in between, each image randomly shifted.

    As published, the first and the last grid point lie on the border (16 points across 128 px), and what is shifted out
    on one side comes in on the other. The standard deviation is 1 at the grid points only; between them, numbers are means
    of neighbours, so that over all pixels it is close to 2/3. The correlation of two pixels falls to about 1/4 at the
    distance of one cell and to 0 at that of two.

    Parameters
    ----------
    count : N, number of images; unlike in the authors' code each has its own shift
    shape : (rows, columns) px
    cell : px between grid points, rounded so that their number is whole
    generator : on the CPU; None takes torch's default one

    Returns
    -------
    float32 [N, 1, H, W] on the CPU, so that the same seed gives the same noise on every device
    """
    points = [max(1, round(edge / cell)) for edge in shape]
    noise = F.interpolate(
        torch.randn((count, 1, *points), generator=generator), size=shape, mode="bilinear", align_corners=True
    )
    shifts = torch.stack([torch.randint(edge, (count,), generator=generator) for edge in shape], dim=1).tolist()
    return torch.stack([image.roll(shift, dims=(1, 2)) for image, shift in zip(noise, shifts, strict=True)])


class DenoisingAutoencoder(Reconstructor):
    """One U-Net from noisy to clean slices of the input modality; at test time a slice goes through it without noise.

    Network, optimiser and augmentation are those of the other methods. The published score is |x - x^|, median filtered;
    the squared error ranks pixels alike, since there is one input modality and one reconstruction.

    Attributes
    ----------
    network : one channel in, one out, no time
    noise_std : standard deviation of the noise at its grid points, on the scale where the brain spans -3..3. Published is
        0.2 in units of the 99th percentile of the scan's intensities; what are 6 units here, from the 2nd to the 90th
        percentile of the brain, is a bit more than half of that in most scans.
    cell : px between the noise's grid points: half a strip's width, 15 mm, 8 px of the 128 px slices it is published for
    """

    name = "dae"
    masked = False
    translates = False
    picture_titles = ("{input}, noisy", "{input}, denoised", "{input}, reconstructed")
    noise_std: ClassVar[float] = 2.2

    def __init__(
        self, network: NetworkPlan, diffusion: DiffusionPlan, strip_width: int, patch_size: tuple[int, int]
    ) -> None:
        super().__init__(network, diffusion, strip_width, patch_size)
        self.cell = strip_width / CELLS_PER_STRIP_WIDTH
        self.network = UNet(network, patch_size, input_channels=1, time_conditioning=False)

    def add_noise(self, x: Tensor, noise: Tensor) -> Tensor:
        """Compute x with ``noise`` of standard deviation 1 added to the foreground, scaled by ``noise_std``.

        All [N, 1, H, W].
        """
        return torch.where(x != BACKGROUND, x + self.noise_std * noise.to(x.device), x)

    def training_losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the loss "denoising": squared error in the foreground, mean over all pixels (as published).

        ``y`` doesn't matter.

        Parameters
        ----------
        x, y : [N, 1, H, W], healthy slices of the input and the translation modality in the [-3, 3] scale
        """
        clean = self.network(self.add_noise(x, self._noise(len(x), x)))
        return {"denoising": ((clean - x).square() * (x != BACKGROUND)).mean()}

    def reconstruct(
        self, x: Tensor, keep: Tensor, sampling: SamplingSettings, strip_keys: Tensor, slice_keys: Tensor
    ) -> Tensor:
        """Compute x^ of the whole x, without noise; what it gives outside the foreground wasn't trained and means nothing.

        What would be hidden, the sampling and the noise keys don't matter.
        """
        return self.network(x)

    def evaluations(self, sampling: SamplingSettings) -> int:
        """Count one network evaluation."""
        return 1

    def illustrate(self, x: Tensor, keep: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute x with the noise of ``keys``, that without the noise, and x^ of x as it is.

        The background is left as it was.
        """
        noise = [self._noise(1, x, torch.Generator().manual_seed(int(key))) for key in keys]
        noisy = self.add_noise(x, torch.cat(noise))
        denoised, reconstruction = (torch.where(x != BACKGROUND, self.network(seen), x) for seen in (noisy, x))
        return noisy, denoised, reconstruction

    def _noise(self, count: int, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return coarse_noise(count, (like.shape[2], like.shape[3]), self.cell, generator)
