"""A trained fold's maps of healthy held-out slices, and of the same slices with synthetic anomalies in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mmccd_auto.inference.choice.synthetic_check import SEED, AlteredMaps, alter_cases, maps_of_altered
from mmccd_auto.inference.held_out.healthy_slices import choose_healthy_slices, find_records, healthy_maps
from mmccd_auto.inference.maps.engine import MapMaker
from mmccd_auto.inference.maps.fold_model import FoldModel, load_fold
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.calibration import SliceSource
from mmccd_auto.preprocessing.subject_numbers import trained_on
from mmccd_auto.trained.model_folder import ModelFolder


@dataclass(frozen=True)
class TrialMaps:
    """What a cycle makes of healthy and of altered slices.

    Attributes
    ----------
    healthy : to calibrate on
    altered : the same anomalies whatever made the maps
    source : "healthy validation slices" or "healthy training slices"
    """

    healthy: list[CaseMaps]
    altered: list[AlteredMaps]
    source: SliceSource

    @property
    def evaluations_per_slice(self) -> float:
        """Network evaluations, mean over the healthy slices."""
        slices = sum(len(case.indices) for case in self.healthy)
        return sum(case.maps.network_evaluations for case in self.healthy) / slices


@dataclass(frozen=True)
class SyntheticTrial:
    """What models are compared on.

    Attributes
    ----------
    fold : trained, whose held-out slices are taken
    preprocessed : the plans' folder below $mmccd_preprocessed/DATASET
    device : to compute on
    per_kind : synthetic anomalies of each kind
    max_slices : healthy slices that anomalies are put into
    extensions : folders with the user's own trainers
    """

    fold: str
    preprocessed: Path
    device: torch.device
    per_kind: int
    max_slices: int
    extensions: Sequence[str | Path] = ()

    def load(self, model: ModelFolder) -> FoldModel:
        """Load the fold of a model, on the device."""
        return load_fold(model, self.fold, self.device, self.extensions)

    def _trained_on(self, loaded: FoldModel) -> tuple[str, ...]:
        return trained_on(loaded.record, self.preprocessed.parent)

    def source(self, model: ModelFolder, loaded: FoldModel) -> SliceSource:
        """Describe what the slices are to the fold: "healthy validation slices" or "healthy training slices"."""
        return find_records(self.preprocessed, self.fold, model.input_modality, self._trained_on(loaded))[1]

    def maps(self, model: ModelFolder, loaded: FoldModel, settings: InferenceSettings, draw: int = 0) -> TrialMaps:
        """Send the slices through a loaded fold, as they are and altered.

        Parameters
        ----------
        model, loaded : whose maps
        settings : by which they are made
        draw : number of the drawing of the anomalies; the same ones for all models and settings

        Raises
        ------
        MMCCDError
            If there is no healthy slice.
        """
        modality = model.input_modality
        records, source = find_records(self.preprocessed, self.fold, modality, self._trained_on(loaded))
        maker = MapMaker(loaded.cycle, settings, self.device, model.plan.patch_size)
        healthy = [
            healthy_maps(maker, modality, self.preprocessed, records[case], indices, "")
            for case, indices in choose_healthy_slices(records, self.max_slices).items()
        ]
        altered = alter_cases(healthy, modality, self.preprocessed, records, self.per_kind, SEED + draw)
        return TrialMaps(healthy, maps_of_altered(altered, maker, ""), source)
