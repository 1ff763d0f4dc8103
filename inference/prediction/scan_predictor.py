"""What a model and an ensemble of models have in common: from an array, a volume, a file or a folder to predictions."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.streams import Settled, each, part_of_each, split
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.brain_mask import trimmed_brain
from mmccd_auto.imaging.labels import checked_brain_mask
from mmccd_auto.imaging.limits import check_geometry
from mmccd_auto.imaging.non_finite import settle_non_finite, with_zeros
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.inference.options import OutputOptions
from mmccd_auto.inference.prediction.cases.at_workers import ALL_HERE, Spread
from mmccd_auto.inference.prediction.folder_prediction import MAPS_AND_REPORT, predict_file, predict_folder
from mmccd_auto.inference.prediction.folder_run import RunSummary
from mmccd_auto.inference.prediction.prediction import FurtherRecord, Prediction, Scan
from mmccd_auto.inference.scores.edge_profile import EdgeFinding
from mmccd_auto.inference.scores.findings import find_findings
from mmccd_auto.inference.scores.masks import lesions_and_candidates
from mmccd_auto.inference.scores.scoring import Scoring
from mmccd_auto.inference.scores.second_fit import FitRecord
from mmccd_auto.preprocessing.brain_extraction import STRIPPED, extract_brain
from mmccd_auto.preprocessing.further_modalities import lay_further
from mmccd_auto.reporting.page.assemble import Section
from mmccd_auto.trained.identity import ModelIdentity


@dataclass(frozen=True)
class ScanMaps:
    """What a model makes of one scan, on the scan's own grid; all arrays are [z, y, x].

    Attributes
    ----------
    scores : by name, float32, 0 outside the brain: the written score, and its halves "brighter" and "darker" where the model
        is calibrated and not only the score was asked for
    signed : float32, mean error x - x^, 0 outside the brain; None where only the score was asked for
    cycle : float32, on the scale of the normalised scan, -3 outside the brain; None likewise
    brain : bool
    case_score : mean of the highest 1 % of the written score
    healthy_percentile : share of healthy people, in percent, whose case score is lower; None where it isn't known
    network_evaluations : of all folds together
    normalisation : parameters of the intensity scale
    fits : how the intensities were fitted, for each model
    control : float32, the same score without a network, 0 outside the brain; None where it wasn't asked for
    edges : what each model finds at the brain's edge; empty where its calibration doesn't know how healthy people's scores
        lie there
    further : which other modalities it was made with, for each model that can use any
    scoring : by which it is scored, where that isn't the model's for the input modality alone
    """

    scores: dict[str, np.ndarray]
    signed: np.ndarray | None
    cycle: np.ndarray | None
    brain: np.ndarray
    case_score: float
    healthy_percentile: float | None
    network_evaluations: int
    normalisation: dict[str, float]
    fits: tuple[FitRecord, ...]
    control: np.ndarray | None = None
    edges: tuple[EdgeFinding, ...] = ()
    further: tuple[FurtherRecord, ...] = ()
    scoring: Scoring | None = None


@dataclass(frozen=True)
class _Located:
    """A scan with its brain found: by what, with what warnings, and since when (seconds of the monotonic clock)."""

    scan: Scan
    brain_extraction: str
    warnings: tuple[str, ...]
    brain_warning: str
    started: float


class ScanPredictor(ABC):
    """Makes anomaly maps of scans of one input modality.

    Parameters
    ----------
    identity : which model it is
    scoring : how errors become the score and the mask
    device : to compute on
    brain_extraction : backend for scans with skull, see :func:`mmccd_auto.preprocessing.brain_extraction.extract_brain`
    trim_edge_mm : by which brains, found or given, are made smaller before they are looked at: a rim of what isn't brain
    """

    def __init__(
        self,
        identity: ModelIdentity,
        scoring: Scoring,
        device: torch.device,
        brain_extraction: str,
        trim_edge_mm: float = 0.0,
    ) -> None:
        self.identity = identity
        self.scoring = scoring
        self.device = device
        self.brain_extraction = brain_extraction
        self.trim_edge_mm = trim_edge_mm

    @property
    def input_modality(self) -> str:
        """The one modality that is needed to predict."""
        return self.identity.input_modality

    @property
    @abstractmethod
    def modalities(self) -> tuple[str, ...]:
        """Of the dataset; a file's channel number or name says which of them it is."""

    @property
    @abstractmethod
    def further(self) -> tuple[str, ...]:
        """The other modalities that it uses where they are there; empty for most models."""

    @abstractmethod
    def request(self) -> dict[str, Any]:
        """Return all of the model that decides what a map looks like, for CASE.json."""

    @abstractmethod
    def describe(self) -> str:
        """Describe folds, preset and steps in words."""

    @abstractmethod
    def facts(self) -> tuple[Section, ...]:
        """Describe how the model was made, in tables for the report."""

    @abstractmethod
    def scan_maps(
        self, scans: Iterable[Scan | Settled], *, only_score: bool = False, control: bool = False
    ) -> Iterator[ScanMaps | Settled]:
        """Yield the maps of scans, in their order; scans are asked for ahead of the maps that are given.

        Parameters
        ----------
        scans : float32, of the input modality, with a mask of the brain unless they are brain alone; what is settled
            already is handed on
        only_score : make nothing but the written score, for speed and memory
        control : also make the control without a network, see :meth:`check_control`

        Yields
        ------
        the maps; or Settled with an MMCCDError, if the scan can't be used, or the network fails
        """

    @abstractmethod
    def scan_warnings(self, scan: Volume, brain: np.ndarray) -> list[str]:
        """Return the sentences on how the scan differs from what the model has seen."""

    def check_control(self) -> None:
        """Raise :class:`MMCCDError` where the model's calibration holds no control without a network."""
        if not self.scoring.has_control:
            raise MMCCDError(
                f"{self.identity.model} has no control without a network in its calibration: run mmccd_calibrate, or leave "
                "out --save_control."
            )

    def predict_arrays(
        self,
        array: np.ndarray,
        spacing: tuple[float, float, float],
        case: str = "case",
        brain_mask: np.ndarray | None = None,
    ) -> Prediction:
        """Predict from voxels alone.

        Axes are taken for z from inferior to superior, y from anterior to posterior, x from the patient's right to left.

        Parameters
        ----------
        array : [z, y, x], intensities of the input modality
        spacing : mm along x, y, z
        case : name, for files and errors; the map does not depend on it
        brain_mask : [z, y, x], bool or 1 in the brain and 0 elsewhere; None looks for the brain

        Raises
        ------
        MMCCDError
            As :meth:`predict_volume`, or if the array is not 3D, the spacing isn't one, or the mask is of another shape.
        """
        array = np.asarray(array)
        if array.ndim != 3:
            raise MMCCDError(f"{case} has {array.ndim} dimensions: give one 3D array [z, y, x].")
        if not array.size or len(spacing) != 3 or not all(math.isfinite(edge) and edge > 0 for edge in spacing):
            raise MMCCDError(
                f"{case}: an array of shape {array.shape} with a spacing of {tuple(spacing)} is no scan: give voxels, and "
                "three numbers above 0 mm, along x, y and z."
            )
        size = tuple(reversed(array.shape))
        geometry = Geometry(
            size, triple(float(edge) for edge in spacing), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist())
        )
        mask = None
        if brain_mask is not None:
            if np.shape(brain_mask) != array.shape:
                shape = np.shape(brain_mask)
                raise MMCCDError(
                    f"{case}: the brain mask's shape is {shape}, not the scan's {array.shape}: give one of that."
                )
            mask = Volume(np.asarray(brain_mask), geometry)
        return self.predict_volume(Volume(array, geometry), case, mask)

    def predict_volume(
        self,
        volume: Volume,
        case: str = "case",
        brain_mask: Volume | None = None,
        further: Mapping[str, Volume] | None = None,
    ) -> Prediction:
        """Predict one scan.

        Parameters
        ----------
        volume : of the input modality
        case : name, for files and errors; the map does not depend on it
        brain_mask : 1 in the brain and 0 elsewhere, on the scan's grid; None looks for the brain
        further : other modalities of the person, on any grids; those that the model can use are laid on the scan

        Raises
        ------
        MMCCDError
            If the scan can't be used (no brain found, no contrast, too much inside the brain that isn't finite, complex
            numbers), the mask holds other values, or the network fails.
        """
        (prediction,) = self.predict_volumes([Scan(volume, case, brain_mask, further=further or {})])
        if isinstance(prediction, Settled):
            raise prediction.outcome
        return prediction

    def predict_volumes(
        self, scans: Iterable[Scan | Settled], *, only_score: bool = False, control: bool = False
    ) -> Iterator[Prediction | Settled]:
        """Predict scans one after the other, in their order: while the networks work on one, the next are made ready.

        Parameters
        ----------
        scans : of the input modality; what is settled already is handed on
        only_score : leave out the score's halves, the mean error and the cycle, for speed and memory
        control : also make the control without a network

        Raises
        ------
        MMCCDError
            If a control is asked for and the model's calibration holds none.

        Yields
        ------
        the predictions; or Settled, with what :meth:`predict_volume` would raise
        """
        if control:
            self.check_control()
        for_maps, beside = split(each(self._located, scans), 2)
        before = 0.0

        def finished(located: _Located, maps: ScanMaps) -> Prediction:
            nonlocal before
            # Scans overlap: each counts from when the one before it was done with.
            started, before = max(before, located.started), time.monotonic()
            return self._prediction(located, maps, before - started)

        maps = self.scan_maps(part_of_each("scan", for_maps), only_score=only_score, control=control)
        yield from each(finished, beside, maps)

    def _located(self, scan: Scan) -> _Located:
        """Return the scan in float32, finite, and where its brain is."""
        started = time.monotonic()
        given, name = scan.volume, f"{scan.case}: {self.input_modality}"
        if given.array.dtype.kind == "c":
            raise MMCCDError(f"{name} holds complex numbers: give the magnitude.")
        check_geometry(given.geometry, name)
        volume = Volume(given.array.astype(np.float32, copy=False), given.geometry, given.warnings)
        if scan.brain_mask is not None:
            given_mask = checked_brain_mask(scan.brain_mask, f"{scan.case}: the brain mask")
            mask: Volume | None = given_mask
            brain, backend, warning = given_mask.array > 0, "given", ""
            if brain.shape != volume.array.shape:
                # Which is told where the grids are compared.
                return _Located(replace(scan, volume=volume, brain_mask=mask), backend, volume.warnings, "", started)
        else:
            found = extract_brain(with_zeros(volume), self.input_modality, self.brain_extraction, name)
            brain, backend, warning = found.mask, found.backend, found.warning
            mask = None if backend == STRIPPED else Volume(brain.astype(np.uint8), volume.geometry)
        if self.trim_edge_mm:
            brain = trimmed_brain(brain, volume.geometry.spacing, self.trim_edge_mm, name)
            # On the grid of the mask that was given, which is compared with the scan's later on.
            mask = Volume(brain.astype(np.uint8), volume.geometry if mask is None else mask.geometry)
        volume = settle_non_finite(volume, brain, name)
        warnings = (*volume.warnings, *([warning] if warning else []))
        others = {name: scan.further[name] for name in self.further if name in scan.further}
        laid = lay_further(scan.case, volume, self.input_modality, brain, others)
        laid.left_out.update(scan.laid.left_out)
        # The others are not needed on their own grids any more.
        located = replace(scan, volume=volume, brain_mask=mask, further={}, laid=laid)
        return _Located(located, backend, warnings, warning, started)

    def _prediction(self, located: _Located, maps: ScanMaps, seconds: float) -> Prediction:
        scan, age, scoring = located.scan.volume, located.scan.age, maps.scoring or self.scoring
        # Of several models one that sees a rim, so that it is told.
        edge = max(maps.edges, key=lambda one: one.is_rim, default=None)
        unused = [f"{name} was not used: {why}" for one in maps.further for name, why in one.left_out.items()]
        beside = [scoring.age_warning(age), "" if edge is None else edge.warning, *dict.fromkeys(unused)]
        anomaly, mask, candidates = maps.scores[scoring.score], None, None
        voxel, least = scan.geometry.voxel_volume, scoring.least_lesion_mm3
        if scoring.threshold is not None:
            parts = lesions_and_candidates(anomaly, maps.brain, scoring.threshold, least, voxel)
            mask, candidates = (one.astype(np.uint8) for one in parts)
        return Prediction(
            case=located.scan.case,
            scan=scan.array,
            anomaly=anomaly,
            brighter=maps.scores.get("brighter"),
            darker=maps.scores.get("darker"),
            signed=maps.signed,
            cycle=maps.cycle,
            brain=maps.brain,
            mask=mask,
            candidates=candidates,
            geometry=scan.geometry,
            threshold=scoring.threshold,
            findings=find_findings(anomaly, mask, candidates, least, voxel),
            calibrated=scoring.calibrated,
            case_score=maps.case_score,
            healthy_percentile=maps.healthy_percentile,
            network_evaluations=maps.network_evaluations,
            seconds=seconds,
            normalisation=maps.normalisation,
            fits=maps.fits,
            control=maps.control,
            healthy_percentile_of="" if maps.healthy_percentile is None else scoring.percentile_of(age),
            brain_extraction=located.brain_extraction,
            warnings=(*located.warnings, *self.scan_warnings(scan, maps.brain), *filter(None, beside)),
            brain_warning=located.brain_warning,
            edge=edge,
            further=maps.further,
            scoring=maps.scoring,
        )

    def predict_file(
        self,
        path: str | Path,
        output: str | Path,
        *,
        case: str | None = None,
        brain_mask: str | Path | None = None,
        save_cycle: bool = False,
    ) -> Prediction:
        """Predict one file and write its maps.

        See :func:`mmccd_auto.inference.prediction.folder_prediction.predict_file`.
        """
        return predict_file(self, Path(path), Path(output), case, brain_mask, save_cycle)

    def predict_folder(
        self,
        source: str | Path,
        output: str | Path,
        options: OutputOptions = MAPS_AND_REPORT,
        spread: Spread = ALL_HERE,
    ) -> RunSummary:
        """Predict every case of a folder, a hospital's export among them.

        Also write the files of each, summary.csv and report.html; see
        :func:`mmccd_auto.inference.prediction.folder_prediction.predict_folder`.
        """
        return predict_folder(self, Path(source), Path(output), options, spread)
