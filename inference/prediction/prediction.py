"""What a prediction is: the maps of one case, and the model that made them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch

from mmccd_auto.core.processes.streams import Settled
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.inference.scores.edge_profile import EdgeFinding
from mmccd_auto.inference.scores.findings import Findings
from mmccd_auto.inference.scores.scoring import Scoring
from mmccd_auto.inference.scores.second_fit import FitRecord
from mmccd_auto.preprocessing.further_modalities import LaidModalities
from mmccd_auto.reporting.page.assemble import Section
from mmccd_auto.trained.identity import ModelIdentity


class PredictsScans(Protocol):
    """What the run over a folder needs of a predictor.

    See :class:`mmccd_auto.inference.prediction.scan_predictor.ScanPredictor`.
    """

    identity: ModelIdentity
    scoring: Scoring
    device: torch.device
    brain_extraction: str

    @property
    def input_modality(self) -> str:
        """The one modality that is needed to predict."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of the dataset."""

    @property
    def further(self) -> tuple[str, ...]:
        """The other modalities that it uses where they are there; empty for most models."""

    def request(self) -> dict[str, Any]:
        """Return all of the model that decides what a map looks like, for CASE.json."""

    def describe(self) -> str:
        """Describe folds, preset and steps in words."""

    def facts(self) -> tuple[Section, ...]:
        """Describe how the model was made, in tables for the report."""

    def check_control(self) -> None:
        """Raise :class:`MMCCDError` where the model's calibration holds no control without a network."""

    def predict_volume(self, volume: Volume, case: str = ..., brain_mask: Volume | None = ...) -> Prediction:
        """Predict one scan."""

    def predict_volumes(
        self, scans: Iterable[Scan | Settled], *, only_score: bool = ..., control: bool = ...
    ) -> Iterator[Prediction | Settled]:
        """Predict scans one after the other, in their order."""


@dataclass(frozen=True)
class Scan:
    """What is to be predicted.

    Attributes
    ----------
    volume : of the input modality
    case : name, for files and errors; the map does not depend on it
    brain_mask : nonzero in the brain, on the scan's grid; None looks for the brain
    age : years, for the percentile of healthy people; the map does not depend on it
    abnormal : nonzero where something abnormal is known, on the scan's grid: a calibration leaves it out; the map does not
        depend on it
    further : other modalities of the person, each on a grid of its own; a model that can't use them leaves them alone
    laid : the same on the grid of ``volume``, made by the predictor
    """

    volume: Volume
    case: str
    brain_mask: Volume | None = None
    age: float | None = None
    abnormal: Volume | None = None
    further: Mapping[str, Volume] = field(default_factory=dict)
    laid: LaidModalities = field(default_factory=LaidModalities)


@dataclass(frozen=True)
class FurtherRecord:
    """Which other modalities a map was made with, for CASE.json.

    Attributes
    ----------
    model : whose map it was
    used : modality -> how it was laid on the input modality
    left_out : modality -> why it wasn't used
    calibrated_with : the subset by whose units the map is scored, "T1 + T2"; empty for those of the input alone
    """

    model: str
    used: dict[str, str]
    left_out: dict[str, str]
    calibrated_with: str


@dataclass(frozen=True)
class Prediction:
    """The maps of one scan on the scan's own grid.

    Attributes
    ----------
    case : its name
    scan : float32 [z, y, x], the scan as it was given
    anomaly : float32 [z, y, x], the score, >= 0, and 0 outside the brain
    brighter, darker : float32 [z, y, x], its two halves in calibrated units; None where the model isn't calibrated, or only
        the score was asked for
    signed : float32 [z, y, x], mean error; above 0 where the scan is brighter than its cycle; 0 outside the brain; None
        where only the score was asked for
    cycle : float32 [z, y, x], mean cycle on the scale of the normalised scan, -3 outside the brain; None likewise
    brain : bool [z, y, x]
    mask : uint8 [z, y, x], 1 in lesions: connected voxels above the threshold; None where there is no threshold
    candidates : uint8 [z, y, x], 1 in connected voxels above the threshold that are smaller than a lesion; None likewise
    geometry : of all these arrays, exactly the scan's
    threshold : None where the model isn't calibrated and none was given
    findings : lesions and candidates, counted and measured
    calibrated : 1.0 is the score that healthy tissue exceeds in 1 % of its voxels; else the score is the squared error
    case_score : mean of the highest 1 % of scores
    healthy_percentile : share of healthy people, in percent, whose case score is lower; None where it isn't known, or
        where fewer than ten people would give it
    network_evaluations : forward and backward network of all folds together
    seconds : that it took
    normalisation : parameters of the intensity scale
    fits : how the intensities were fitted, for each model
    brain_extraction : by what the brain was found: "given", "stripped" or a backend's name
    warnings : sentences on how the scan differs from what the model has seen, and on its brain
    brain_warning : the one of these on how the brain was found; empty where there is none
    control : float32 [z, y, x], the same score without a network, 0 outside the brain; None where it wasn't asked for
    healthy_percentile_of : "12 healthy people of 61 to 80 years", where the percentile is among people of that age
    edge : how the brain's edge scores beside that of healthy people; None where the calibration doesn't know that
    further : which other modalities it was made with, for each model that can use any
    scoring : threshold and units where they are others than the model's for the input modality alone
    """

    case: str
    scan: np.ndarray
    anomaly: np.ndarray
    brighter: np.ndarray | None
    darker: np.ndarray | None
    signed: np.ndarray | None
    cycle: np.ndarray | None
    brain: np.ndarray
    mask: np.ndarray | None
    candidates: np.ndarray | None
    geometry: Geometry
    threshold: float | None
    findings: Findings
    calibrated: bool
    case_score: float
    healthy_percentile: float | None
    network_evaluations: int
    seconds: float
    normalisation: dict[str, float]
    fits: tuple[FitRecord, ...]
    brain_extraction: str
    warnings: tuple[str, ...]
    brain_warning: str
    control: np.ndarray | None = None
    healthy_percentile_of: str = ""
    edge: EdgeFinding | None = None
    further: tuple[FurtherRecord, ...] = ()
    scoring: Scoring | None = None

    @property
    def brain_ml(self) -> float:
        """Volume of the brain in millilitres."""
        return float(np.count_nonzero(self.brain) * self.geometry.voxel_volume / 1000)

    @property
    def anomalous_ml(self) -> float | None:
        """Volume of the mask in millilitres; None where there is no mask."""
        return None if self.mask is None else float(np.count_nonzero(self.mask) * self.geometry.voxel_volume / 1000)
