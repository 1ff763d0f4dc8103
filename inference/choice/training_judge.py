"""How good a cycle is while it is trained: by synthetic anomalies, without labels."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mmccd_auto.inference.choice.synthetic_check import alter_cases, auprc_by_kind, maps_of_altered
from mmccd_auto.inference.held_out.healthy_slices import choose_healthy_slices, find_records, healthy_maps
from mmccd_auto.inference.maps.engine import MapMaker
from mmccd_auto.inference.maps.settings import make_settings
from mmccd_auto.inference.options import MapOptions
from mmccd_auto.inference.scores.calibration import HELD_OUT, fit_calibration
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.plans.plan import Plan

MAX_SLICES = 24
logger = logging.getLogger(__name__)


class SyntheticJudge:
    """Judges a cycle by the synthetic anomalies that it finds in the fold's healthy held-out slices; the trainer asks it.

    With one diffusion step and strips side by side: it is asked many times, and states of one training are compared.

    Parameters
    ----------
    plan, configuration, fold : of the training
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET, with splits_final.json beside it
    device : that the cycle is on
    training_cases : of the training, which the judge leaves out
    max_slices : healthy slices that the anomalies are put into

    Raises
    ------
    MMCCDError
        If there is no healthy slice.
    """

    def __init__(
        self,
        plan: Plan,
        configuration: str,
        fold: int | str,
        preprocessed: Path,
        device: torch.device,
        training_cases: Collection[str] = (),
        max_slices: int = MAX_SLICES,
    ) -> None:
        self.plan, self.configuration, self.fold = plan, configuration, str(fold)
        self.preprocessed, self.device = Path(preprocessed), device
        self.modality = plan.configuration(configuration).input_modality
        self.records, self.source = find_records(self.preprocessed, self.fold, self.modality, training_cases)
        self.chosen = choose_healthy_slices(self.records, max_slices)
        self.settings = make_settings(
            plan, configuration, options=MapOptions(sampling_steps=1, strip_stride=plan.strip_width)
        )

    def __call__(self, cycle: Reconstructor) -> float:
        """Compute the area under the precision-recall curve, mean over the kinds of anomalies.

        Always of the same anomalies.
        """
        maker = MapMaker(cycle, self.settings, self.device, self.plan.patch_size)
        healthy = [
            healthy_maps(maker, self.modality, self.preprocessed, self.records[case], indices, description="")
            for case, indices in self.chosen.items()
        ]
        altered = maps_of_altered(
            alter_cases(healthy, self.modality, self.preprocessed, self.records, per_kind=1), maker, description=""
        )
        # Without the control, which is the same whatever the network has learned.
        score = replace(self.plan.configuration(self.configuration).score, control_weight=0.0)
        calibration = fit_calibration(healthy, score, self.settings.to_json(), self.source, {})
        return float(np.mean(list(auprc_by_kind(altered, calibration).values())))


def find_judge(
    training_cases: Collection[str],
    plan: Plan,
    configuration: str,
    fold: int | str,
    preprocessed: Path,
    device: torch.device,
) -> SyntheticJudge | None:
    """Find the judge of a training.

    None where no healthy slice is held out, since slices that a cycle has seen can't show which of its states is best. The
    parameters are those of :class:`SyntheticJudge`.
    """
    slices = plan.training.judged_slices
    judge = SyntheticJudge(plan, configuration, fold, preprocessed, device, training_cases, slices)
    if judge.source == HELD_OUT:
        return judge
    logger.warning("fold %s holds no healthy slices out: its training is not judged, and its last state predicts.", fold)
    return None
