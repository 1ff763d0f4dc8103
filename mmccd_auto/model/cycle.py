"""The modality cycle: x -> y by the forward network, y -> x^ by the backward network; what x^ misses of x is anomalous."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.model.denoising_autoencoder import DenoisingAutoencoder
from mmccd_auto.model.lesion_remover import LesionRemover
from mmccd_auto.model.noise import standard_normal
from mmccd_auto.model.reconstructor import Reconstructor, SamplingSettings
from mmccd_auto.model.schedule import CLEAN, DiffusionSchedule
from mmccd_auto.model.strip_masks import keep_mask, keep_mask_of_groups, random_strip_groups, random_strips
from mmccd_auto.model.subset_remover import SubsetRemover
from mmccd_auto.model.unet import UNet
from mmccd_auto.plans.plan import DiffusionPlan, NetworkPlan, Plan

INITIAL_DRAW = 0
CONDITION_DRAW = 1
PICTURE_STEPS = 10


def mask_condition(x: Tensor, keep: Tensor, noise: Tensor) -> Tensor:
    """Compute the forward model's condition c = k x + (1 - k) n; all [N, 1, H, W].

    What ``x`` holds where k = 0 has no influence.
    """
    return torch.where(keep > 0, x, noise)


class Cycle(Reconstructor):
    """Two networks, x -> y and y -> x, and how they are trained and used together.

    Parameters
    ----------
    network : of both U-Nets
    diffusion : noise schedule of the forward model
    strip_width : px
    patch_size : (rows, columns) px of the slices

    Attributes
    ----------
    schedule : of the forward model
    forward_network, backward_network : the two U-Nets, trained side by side, sharing nothing
    """

    translates = True
    picture_titles: ClassVar[tuple[str, str, str]] = ("{input}, as seen", "{translation}, generated", "{input}, cycled")
    forward_network: UNet
    backward_network: UNet

    def __init__(
        self, network: NetworkPlan, diffusion: DiffusionPlan, strip_width: int, patch_size: tuple[int, int]
    ) -> None:
        super().__init__(network, diffusion, strip_width, patch_size)
        self.schedule = DiffusionSchedule(diffusion)
        self.forward_network = self.make_forward_network(network, patch_size)
        self.backward_network = UNet(network, patch_size, input_channels=1, time_conditioning=False)

    @abstractmethod
    def make_forward_network(self, network: NetworkPlan, patch_size: tuple[int, int]) -> UNet:
        """Make the network of x -> y."""

    @abstractmethod
    def forward_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the loss of the forward network, a scalar; x, y [N, 1, H, W]."""

    @abstractmethod
    def translate(
        self, x: Tensor, keep: Tensor, sampling: SamplingSettings, strip_keys: Tensor, slice_keys: Tensor
    ) -> Tensor:
        """Generate y [N, 1, H, W] from what ``keep`` leaves of x; arguments as in :meth:`reconstruct`."""

    def training_losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the scalar losses "forward" and "backward" of a batch of pairs, with torch's default random numbers.

        Parameters
        ----------
        x, y : [N, 1, H, W], healthy slices of the input and the translation modality in the [-3, 3] scale
        """
        return {"forward": self.forward_loss(x, y), "backward": F.mse_loss(self.backward_network(y), x)}

    def reconstruct(
        self, x: Tensor, keep: Tensor, sampling: SamplingSettings, strip_keys: Tensor, slice_keys: Tensor
    ) -> Tensor:
        """Compute the cycle x -> y -> x^; arguments and result as in :meth:`Reconstructor.reconstruct`."""
        return self.backward_network(self.translate(x, keep, sampling, strip_keys, slice_keys))

    def evaluations(self, sampling: SamplingSettings) -> int:
        """Count the evaluations of both networks.

        The forward one at every diffusion step where the cycle is masked, else once.
        """
        return sampling.steps + 1 if self.masked else 2

    def illustrate(self, x: Tensor, keep: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what the forward network is shown of x, the y it makes of that in few steps, and x^."""
        steps = min(PICTURE_STEPS, self.schedule.num_timesteps)
        sampling = SamplingSettings(steps, "trailing", share_initial_noise=False, redraw_condition_noise=False)
        generated = self.translate(x, keep, sampling, keys, keys)
        shown = torch.where(keep > 0, x, torch.nan) if self.masked else x
        return shown, generated, self.backward_network(generated)


class PublishedModalityCycle(Cycle):
    """MMCCD to the letter (arXiv 2308.16150): a conditional diffusion model makes y of x with a strip hidden."""

    name = "mmccd_published"
    masked = True

    def make_forward_network(self, network: NetworkPlan, patch_size: tuple[int, int]) -> UNet:
        """Make a network of two input channels, y_t and the condition, and the timestep; it predicts y_0."""
        return UNet(network, patch_size, input_channels=2, time_conditioning=True)

    def forward_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the mean squared error of the predicted y_0 over the whole slice.

        Every entry has its own timestep and strip.
        """
        t = torch.randint(self.schedule.num_timesteps, (len(x),), device=x.device)
        return F.mse_loss(self.denoise_at(x, y, self.random_keep(x), t), y)

    def random_keep(self, x: Tensor) -> Tensor:
        """Compute a strip of random place and direction for each entry of x [N, 1, H, W], as a keep mask of its shape."""
        shape = (x.shape[2], x.shape[3])
        return keep_mask(random_strips(len(x), shape, self.strip_width), shape, self.strip_width, x.device)

    def denoise_at(self, x: Tensor, y: Tensor, keep: Tensor, t: Tensor) -> Tensor:
        """Predict y_0 from y diffused to the timesteps t [N] and from what ``keep`` leaves of x.

        All images are [N, 1, H, W].
        """
        condition = mask_condition(x, keep, torch.randn_like(x))
        y_t = self.schedule.q_sample(y, t, torch.randn_like(y))
        return self.forward_network(self.forward_input(y_t, condition, keep), t)

    def forward_input(self, y_t: Tensor, condition: Tensor, keep: Tensor) -> Tensor:
        """Return what the forward network sees [N, channels, H, W]; the arguments are [N, 1, H, W]."""
        return torch.cat([y_t, condition], dim=1)

    def visible(self, x: Tensor, keep: Tensor) -> Tensor:
        """Find where the forward network sees x while the strips of ``keep`` are hidden; all [N, 1, H, W]."""
        return keep

    def translate(
        self, x: Tensor, keep: Tensor, sampling: SamplingSettings, strip_keys: Tensor, slice_keys: Tensor
    ) -> Tensor:
        """Sample y by DDIM (eta 0, no clipping) from noise, given the masked x."""
        shape, keep = (x.shape[2], x.shape[3]), self.visible(x, keep)
        timesteps = self.schedule.timesteps(sampling.steps, sampling.spacing)
        initial_keys = slice_keys if sampling.share_initial_noise else strip_keys
        y = standard_normal(initial_keys, INITIAL_DRAW, shape, x.device)
        condition = mask_condition(x, keep, standard_normal(strip_keys, CONDITION_DRAW, shape, x.device))
        for step, (t, t_previous) in enumerate(zip(timesteps, [*timesteps[1:], CLEAN], strict=True)):
            if sampling.redraw_condition_noise and step > 0:
                condition = mask_condition(x, keep, standard_normal(strip_keys, CONDITION_DRAW + step, shape, x.device))
            times = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
            y0_hat = self.forward_network(self.forward_input(y, condition, keep), times)
            y = self.schedule.ddim_step(y0_hat, y, t, t_previous)
        return y


class MaskedModalityCycle(PublishedModalityCycle):
    """MMCCD, trained for what inference does with it; the package's own changes to the published training.

    Only what a strip hides enters the anomaly map, the first timestep is the one that every sample passes (and the only one
    where one step suffices), and the backward network is fed what the forward network makes, not real slices. So:

    - a strip hides pixels of the brain only: where the brain ends is known of every scan, no lesion changes it, and a
      network that has to guess it within 30 mm guesses wrong;
    - one strip is hidden, or two of them, so that inference may hide two at once and needs half as many passes;
    - the forward network is shown which pixels are hidden, by the keep mask as a third input channel;
    - what is hidden weighs more in the losses, ``hidden_weight`` times as much;
    - a share of the entries, ``first_timestep_share``, is trained at the noisiest timestep;
    - the backward network gets the forward network's y for a share of the entries, ``generated_share``, without gradient.
    """

    name = "mmccd"
    two_strips_share: ClassVar[float] = 0.5
    hidden_weight: ClassVar[float] = 5.0
    first_timestep_share: ClassVar[float] = 0.5
    generated_share: ClassVar[float] = 0.5

    def make_forward_network(self, network: NetworkPlan, patch_size: tuple[int, int]) -> UNet:
        """Make a network of three input channels, y_t, the condition and the keep mask, and the timestep.

        It predicts y_0.
        """
        return UNet(network, patch_size, input_channels=3, time_conditioning=True)

    def forward_input(self, y_t: Tensor, condition: Tensor, keep: Tensor) -> Tensor:
        """Compute y_t, the condition and where it is noise."""
        return torch.cat([y_t, condition, keep], dim=1)

    def random_keep(self, x: Tensor) -> Tensor:
        """Compute one or two strips of random place for each entry of x [N, 1, H, W]; the background stays in sight."""
        shape = (x.shape[2], x.shape[3])
        groups = random_strip_groups(len(x), shape, self.strip_width, self.two_strips_share)
        return self.visible(x, keep_mask_of_groups(groups, shape, self.strip_width, x.device))

    def training_losses(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the losses of both networks on one pass of the forward network; see :meth:`Cycle.training_losses`."""
        keep = self.random_keep(x)
        generated = self.denoise_at(x, y, keep, self._timesteps(len(x), x.device))
        feed = torch.rand(len(x), 1, 1, 1, device=x.device) < self.generated_share
        backward = self.backward_network(torch.where(feed, generated.detach(), y))
        return {
            "forward": self._weighted_error(generated, y, keep),
            "backward": self._weighted_error(backward, x, torch.where(feed, keep, 1.0)),
        }

    def visible(self, x: Tensor, keep: Tensor) -> Tensor:
        """Compute ``keep``, and all of the background."""
        return torch.where(x == BACKGROUND, 1.0, keep)

    def _timesteps(self, count: int, device: torch.device) -> Tensor:
        last = self.schedule.num_timesteps - 1
        any_of_them = torch.randint(last + 1, (count,), device=device)
        return torch.where(torch.rand(count, device=device) < self.first_timestep_share, last, any_of_them)

    def _weighted_error(self, found: Tensor, wanted: Tensor, keep: Tensor) -> Tensor:
        """Compute the mean squared error in which pixels with keep = 0 weigh ``hidden_weight`` times as much."""
        weight = torch.where(keep > 0, 1.0, self.hidden_weight)
        return (weight * (found - wanted) ** 2).sum() / weight.sum()


class CyclicUNet(Cycle):
    """The paper's baseline: both directions deterministic, nothing hidden. Two network evaluations a slice."""

    name = "cyclic_unet"
    masked = False

    def make_forward_network(self, network: NetworkPlan, patch_size: tuple[int, int]) -> UNet:
        """Make a network of one input channel, no time."""
        return UNet(network, patch_size, input_channels=1, time_conditioning=False)

    def forward_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the mean squared error over the whole slice."""
        return F.mse_loss(self.forward_network(x), y)

    def translate(
        self, x: Tensor, keep: Tensor, sampling: SamplingSettings, strip_keys: Tensor, slice_keys: Tensor
    ) -> Tensor:
        """Compute y of the whole x; what would be hidden and the noise keys don't matter."""
        return self.forward_network(x)


CYCLES: dict[str, type[Reconstructor]] = {
    method.name: method
    for method in (
        MaskedModalityCycle,
        PublishedModalityCycle,
        CyclicUNet,
        DenoisingAutoencoder,
        LesionRemover,
        SubsetRemover,
    )
}
"""The package's methods by name; those that aren't cycles, too."""


def build_cycle(method: str, plan: Plan) -> Reconstructor:
    """Build the untrained networks of a method.

    Parameters
    ----------
    method : a name in CYCLES
    plan : gives the networks, the noise schedule, the strip width and the patch size

    Raises
    ------
    MMCCDError
        If there is no such method.
    """
    if method not in CYCLES:
        raise MMCCDError(f"the method {method} is unknown: choose one of {', '.join(CYCLES)}.")
    return CYCLES[method].of_plan(plan)
