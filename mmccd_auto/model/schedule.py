"""The forward model's noise schedule: linear betas, the diffusion of y and the steps back (DDPM posterior, DDIM)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.plans.plan import DiffusionPlan

Spacing = Literal["trailing", "leading"]
SPACINGS: tuple[Spacing, ...] = ("trailing", "leading")
CLEAN = -1
"""The timestep before timestep 0: y0 itself."""


class DiffusionSchedule:
    """Tables of the diffusion q(y_t | y_0) = N(sqrt(abar_t) y_0, (1 - abar_t) I), t in 0..T-1 (Ho et al., 2020).

    The tables are float64, because 1 - abar_t loses digits otherwise; what is computed from them has the dtype and the
    device of the given slices. Each table is sent to a device once and kept there, since sending it is waited for.

    Parameters
    ----------
    plan : number of timesteps, and the ends of the linear betas, which are scaled by 1000 / T

    Attributes
    ----------
    num_timesteps : T
    betas : float64 [T]
    alphas_cumprod : float64 [T], abar_t

    Raises
    ------
    MMCCDError
        If the plan's betas don't lie strictly between 0 and 1.
    """

    def __init__(self, plan: DiffusionPlan) -> None:
        scale = 1000 / plan.timesteps if plan.timesteps > 0 else 0.0
        self.num_timesteps = plan.timesteps
        # On the CPU also where the networks are made without memory, to know their shapes: the checks below need values.
        steps, cpu = max(plan.timesteps, 0), torch.device("cpu")
        self.betas = torch.linspace(scale * plan.beta_start, scale * plan.beta_end, steps, dtype=torch.float64, device=cpu)
        if plan.timesteps < 1 or not bool(((self.betas > 0) & (self.betas < 1)).all()):
            raise MMCCDError(
                f"plans.json: diffusion with {plan.timesteps} timesteps and betas {plan.beta_start}..{plan.beta_end} is not "
                "usable, since 1000 / timesteps times each beta must lie between 0 and 1: take 1000, 1e-4 and 0.02."
            )
        self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)
        before = torch.cat([torch.ones(1, dtype=torch.float64, device=cpu), self.alphas_cumprod[:-1]])
        self._signal = self.alphas_cumprod.sqrt()
        self._noise = (1 - self.alphas_cumprod).sqrt()
        self._posterior_y0 = self.betas * before.sqrt() / (1 - self.alphas_cumprod)
        self._posterior_yt = (1 - self.betas).sqrt() * (1 - before) / (1 - self.alphas_cumprod)
        self._posterior_variance = self.betas * (1 - before) / (1 - self.alphas_cumprod)
        self._sent: dict[tuple[str, torch.dtype, torch.device], Tensor] = {}

    def q_sample(self, y0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Diffuse y_0 to timestep t: sqrt(abar_t) y_0 + sqrt(1 - abar_t) noise (DDPM, equation 4).

        Parameters
        ----------
        y0, noise : [N, 1, H, W]
        t : int64 [N], 0..T-1
        """
        return self._at("_signal", t, y0) * y0 + self._at("_noise", t, y0) * noise

    def posterior_mean_variance(self, y0: Tensor, y_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the mean [N, 1, H, W] and variance [N, 1, 1, 1] of q(y_{t-1} | y_t, y_0) (DDPM, equations 6 and 7).

        Parameters
        ----------
        y0, y_t : [N, 1, H, W]
        t : int64 [N], 0..T-1; at 0 the mean is y0 and the variance 0
        """
        mean = self._at("_posterior_y0", t, y_t) * y0 + self._at("_posterior_yt", t, y_t) * y_t
        return mean, self._at("_posterior_variance", t, y_t)

    def ddim_step(self, y0_hat: Tensor, y_t: Tensor, t: int, t_previous: int) -> Tensor:
        """Compute one deterministic step back, eta 0, without clipping (DDIM, equation 12, in terms of the predicted y_0).

        Parameters
        ----------
        y0_hat, y_t : [N, 1, H, W], the predicted y_0 and the present y_t
        t : 0..T-1
        t_previous : CLEAN (-1) .. t-1, where the step leads; CLEAN returns ``y0_hat``

        Raises
        ------
        ValueError
            If the timesteps are out of range or not decreasing.
        """
        if not CLEAN <= t_previous < t < self.num_timesteps:
            raise ValueError(f"no step from timestep {t} to {t_previous} with {self.num_timesteps} timesteps")
        if t_previous == CLEAN:
            return y0_hat
        ratio = float(self._noise[t_previous] / self._noise[t])
        return (float(self._signal[t_previous]) - ratio * float(self._signal[t])) * y0_hat + ratio * y_t

    def timesteps(self, steps: int, spacing: Spacing = "trailing") -> list[int]:
        """Return the timesteps that ``steps`` evaluations visit, strictly decreasing, for any count 1..T.

        "trailing" begins at T-1, where y_t is nearly pure noise, as sampling assumes (Lin et al., 2024). "leading" ends at
        0: 100 of 1000 are 990, 980, ..., 0, as in the paper.

        Raises
        ------
        MMCCDError
            If the count or the spacing is not possible.
        """
        total = self.num_timesteps
        if not 1 <= steps <= total:
            raise MMCCDError(f"{steps} diffusion steps are not possible: choose 1 to {total}.")
        if spacing not in SPACINGS:
            raise MMCCDError(f"the spacing {spacing} of diffusion steps is unknown: choose {' or '.join(SPACINGS)}.")
        offsets = [index * total // steps for index in range(steps)]
        return [total - 1 - offset for offset in offsets] if spacing == "trailing" else offsets[::-1]

    def _at(self, name: str, t: Tensor, like: Tensor) -> Tensor:
        """Compute the entries ``t`` [N] of the table ``name`` as [N, 1, 1, 1] with the dtype and device of ``like``."""
        key = (name, like.dtype, like.device)
        if key not in self._sent:
            # What is made in inference mode is of use there only; copy: also where there is nothing to convert.
            with torch.inference_mode(False):
                self._sent[key] = getattr(self, name).to(like.dtype, copy=True).to(like.device)
        return self._sent[key][t.to(like.device)].reshape(-1, 1, 1, 1)
