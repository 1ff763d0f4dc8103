"""One case judged inside its brain: which voxels count, the figures of each method there, the counts that pooling needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.executor import Workers, run_cases
from mmccd_auto.evaluation import metrics
from mmccd_auto.evaluation.case_files import CaseFiles, raise_together
from mmccd_auto.evaluation.metrics import OverlapCounts, ScoreCounts
from mmccd_auto.evaluation.surface_distances import distance_figures
from mmccd_auto.imaging.brain_mask import find_brain
from mmccd_auto.imaging.contrasts import lesions_expected_dark
from mmccd_auto.imaging.io import read_geometry, read_volume
from mmccd_auto.imaging.labels import Label, LabelValues, read_brain_mask, read_label
from mmccd_auto.imaging.non_finite import settle_non_finite, with_zeros
from mmccd_auto.imaging.volume import Geometry, Volume

RANKING_FIGURES = ("auprc", "auroc", "best_dice")
GAIN = "gain_over_control"
"""AUPRC of a map less that of its control without a network."""
MASK_FIGURES = (
    "dice",
    "dice_of_oracle",
    "jaccard",
    "sensitivity",
    "precision",
    "assd_mm",
    "hd95_mm",
    "false_positive_ml",
    "masked_share",
)
FIGURES = (*RANKING_FIGURES, GAIN, *MASK_FIGURES)


@dataclass(frozen=True)
class EvaluationOptions:
    """Where scans and brain masks are, and which voxels count.

    Attributes
    ----------
    images : folder of the predicted scans, where they aren't any more where CASE.json says
    brain_masks : folder of CASE.nii.gz brain masks; else the prediction's own mask file, else found from the scan
    erosion_mm : voxels nearer than this to the outside of the brain are left out (3D, in mm, whatever the spacing)
    label_values : what the labels' values mean; None asks the dataset.json in or beside the labels, and knows 0 and 1 alone
        where there is none
    """

    images: str | Path | None = None
    brain_masks: str | Path | None = None
    erosion_mm: float = 0.0
    label_values: LabelValues | None = None

    def folders(self) -> tuple[Path | None, Path | None]:
        """Give the folders of the scans and of the brain masks."""
        images, masks = (None if folder is None else Path(folder) for folder in (self.images, self.brain_masks))
        return images, masks


WHOLE_BRAIN = EvaluationOptions()


@dataclass(frozen=True)
class Grid:
    """The grid that all files of a case must lie on.

    Attributes
    ----------
    geometry : of that grid
    file : whose grid it is, named in errors
    """

    geometry: Geometry
    file: Path

    @classmethod
    def of(cls, file: Path) -> Grid:
        """Return the grid of a file; raises like :func:`mmccd_auto.imaging.io.read_geometry`."""
        return cls(read_geometry(file), file)

    def read(self, path: Path) -> Volume:
        """Read a volume.

        Raises
        ------
        MMCCDError
            If it can't be read or lies on another grid.
        """
        volume = read_volume(path)
        self._check(volume.geometry, path)
        return volume

    def read_label(self, path: Path, values: LabelValues) -> Label:
        """Read a label; raises as :meth:`read`, and where it holds values that ``values`` doesn't name."""
        label = read_label(path, values)
        self._check(label.geometry, path)
        return label

    def read_brain_mask(self, path: Path) -> np.ndarray:
        """Read a brain mask, bool [z, y, x]; raises as :meth:`read`, and where it holds other values than 0 and 1."""
        mask = read_brain_mask(path)
        self._check(mask.geometry, path)
        return mask.array > 0

    def _check(self, geometry: Geometry, path: Path) -> None:
        differences = geometry.differences(self.geometry)
        if differences:
            raise MMCCDError(
                f"{path} and {self.file} are not on one grid ({'; '.join(differences)}): give the files of one scan."
            )


@dataclass(frozen=True)
class JudgedVoxels:
    """Where scores are judged, and against what.

    Attributes
    ----------
    abnormal : bool [z, y, x], the reference
    whole_brain : bool [z, y, x]
    brain : bool [z, y, x], the voxels that are judged: the brain without its eroded rim and what the reference ignores
    grid : of all of them
    ignored_voxels : of the brain, by the reference's "ignore"
    """

    abnormal: np.ndarray
    whole_brain: np.ndarray
    brain: np.ndarray
    grid: Grid
    ignored_voxels: int = 0

    def facts(self) -> dict[str, Any]:
        """Return the counts of voxels that hold for all methods."""
        judged, voxels = int(np.count_nonzero(self.abnormal & self.brain)), int(np.count_nonzero(self.brain))
        return {
            "brain_voxels": voxels,
            "reference_voxels": judged,
            "prevalence": judged / voxels,
            "reference_voxels_outside_brain": int(np.count_nonzero(self.abnormal & ~self.whole_brain)),
            "ignored_voxels": self.ignored_voxels,
            "reference_voxels_eroded": int(np.count_nonzero(self.abnormal & self.whole_brain & ~self.brain)),
        }


@dataclass(frozen=True)
class JudgedMethod:
    """One method in one case.

    Attributes
    ----------
    figures : figure -> value or None
    scores : counts, rounded for pooling
    overlap : of the mask; None where there is no mask
    facts : voxel counts of the mask; empty for a baseline
    """

    figures: dict[str, float | None]
    scores: ScoreCounts
    overlap: OverlapCounts | None
    facts: dict[str, Any]


@dataclass(frozen=True)
class CaseEvaluation:
    """One case.

    Attributes
    ----------
    facts : voxel counts and the like
    methods : method -> what was found
    """

    case: str
    facts: dict[str, Any]
    methods: dict[str, JudgedMethod]


def judge_cases(
    function: Callable[..., CaseEvaluation], work: Sequence[tuple[str, tuple]], processes: Workers
) -> list[CaseEvaluation]:
    """Judge cases side by side, each as a whole in one process.

    Arguments as of :func:`mmccd_auto.core.processes.executor.run_cases`.

    Raises
    ------
    MMCCDError
        If any case can't be judged: one error with a line for each.
    """
    outcomes = run_cases(function, work, processes, "evaluating")
    raise_together(
        {outcome.case: [f"{outcome.case}: {outcome.error}"] for outcome in outcomes if outcome.error is not None}, len(work)
    )
    return [outcome.result for outcome in outcomes if outcome.result is not None]


def choose_voxels(
    case: str,
    grid: Grid,
    reference: Path,
    whole_brain: np.ndarray,
    erosion_mm: float = 0.0,
    values: LabelValues | None = None,
) -> JudgedVoxels:
    """Read the reference of a case and say which voxels are judged.

    Parameters
    ----------
    case : named in errors
    grid : of the case
    reference : label
    whole_brain : bool [z, y, x]
    erosion_mm : see :func:`erode`
    values : what the label's values mean; None knows 0 and 1

    Raises
    ------
    MMCCDError
        If the reference can't be read, holds values that mean nothing, or no brain voxel is left.
    """
    label = grid.read_label(reference, values or LabelValues())
    brain = erode(whole_brain, grid.geometry.spacing, erosion_mm) & ~label.ignored
    if not brain.any():
        raise MMCCDError(f"{case} has no brain voxel left to judge: check its brain mask, the erosion and what is ignored.")
    return JudgedVoxels(label.abnormal, whole_brain, brain, grid, int(np.count_nonzero(label.ignored & whole_brain)))


def judge_score(score: np.ndarray, voxels: JudgedVoxels) -> JudgedMethod:
    """Judge a score [z, y, x] that has no mask; finite inside the brain."""
    counts = metrics.count_scores(score[voxels.brain], voxels.abnormal[voxels.brain])
    return JudgedMethod(
        figures={**metrics.ranking_figures(counts), GAIN: None, **dict.fromkeys(MASK_FIGURES)},
        scores=counts.limited(),
        overlap=None,
        facts={},
    )


def judge_with_control(files: CaseFiles, voxels: JudgedVoxels, method: str, control: str) -> dict[str, JudgedMethod]:
    """Judge a predicted map and its control without a network, and how much the map gains over it.

    Parameters
    ----------
    files : with a control
    voxels : that are judged
    method, control : what the two are called

    Raises
    ------
    MMCCDError
        As :func:`judge_prediction`.
    """
    if files.control is None:
        raise ValueError(f"{files.case} has no control to be judged")
    predicted = judge_prediction(files, voxels)
    score = voxels.grid.read(files.control).array
    finite(score[voxels.brain], files.control)
    judged = judge_score(score, voxels)
    gain = metrics.gain(predicted.figures["auprc"], judged.figures["auprc"])
    return {method: replace(predicted, figures=predicted.figures | {GAIN: gain}), control: judged}


def judge_prediction(files: CaseFiles, voxels: JudgedVoxels) -> JudgedMethod:
    """Judge a predicted map, and its mask where there is one.

    Raises
    ------
    MMCCDError
        If a file can't be read, lies on another grid, or holds values that can't be judged.
    """
    anomaly = voxels.grid.read(files.anomaly).array
    finite(anomaly[voxels.brain], files.anomaly)
    ranked = judge_score(anomaly, voxels)
    if files.mask is None:
        facts = dict.fromkeys(("masked_voxels", "masked_voxels_outside_brain"))
        return JudgedMethod(ranked.figures, ranked.scores, None, facts)
    mask = voxels.grid.read(files.mask).array != 0
    overlap = metrics.count_overlap(mask[voxels.brain], voxels.abnormal[voxels.brain])
    figures = ranked.figures | _mask_figures(mask, voxels, overlap)
    figures["dice_of_oracle"] = metrics.dice_of_oracle(figures["dice"], figures["best_dice"])
    facts = {
        "masked_voxels": int(np.count_nonzero(mask & voxels.brain)),
        "masked_voxels_outside_brain": int(np.count_nonzero(mask & ~voxels.whole_brain)),
    }
    return JudgedMethod(figures, ranked.scores, overlap, facts)


def scan_facts(files: CaseFiles) -> dict[str, Any]:
    """Return the modality of the scan, and which sign the intensity baseline takes there."""
    return {
        "modality": files.modality,
        "intensity_sign": "dark" if lesions_expected_dark(files.modality) else "bright",
    }


def brain_of(files: CaseFiles, image: Volume, grid: Grid) -> np.ndarray:
    """Compute the brain mask of a case: its file, else found in the scan; bool [z, y, x].

    Raises
    ------
    MMCCDError
        If the file lies on another grid, or the scan still has its skull.
    """
    if files.brain_mask is None:
        return find_brain(with_zeros(image).array, image.geometry.spacing, str(files.image))
    return grid.read_brain_mask(files.brain_mask)


def settled(image: Volume, brain: np.ndarray, path: Path) -> np.ndarray:
    """Compute the values of a scan, with those that aren't finite as prediction took them.

    Raises as :func:`mmccd_auto.imaging.non_finite.settle_non_finite`.
    """
    return settle_non_finite(image, brain, str(path)).array


def erode(brain: np.ndarray, spacing: tuple[float, float, float], millimetres: float) -> np.ndarray:
    """Compute the voxels of ``brain`` [z, y, x] farther than ``millimetres`` from the nearest voxel outside (a 3D ball).

    ``spacing`` in mm along x, y, z. The border of the volume isn't a border of the brain.
    """
    if millimetres == 0 or brain.all():
        return brain
    return ndimage.distance_transform_edt(brain, sampling=tuple(reversed(spacing))) > millimetres


def check_erosion(millimetres: float) -> None:
    """Raise an MMCCDError where an erosion isn't 0 or more."""
    if not millimetres >= 0:
        raise MMCCDError(f"An erosion of {millimetres} mm is impossible: give 0 or more.")


def finite(values: np.ndarray, path: Path) -> np.ndarray:
    """Return the values themselves.

    Raises
    ------
    MMCCDError
        If one of them is NaN or infinite.
    """
    if not np.all(np.isfinite(values)):
        raise MMCCDError(f"{path} holds NaN or infinite values: make it again.")
    return values


def _mask_figures(mask: np.ndarray, voxels: JudgedVoxels, overlap: OverlapCounts) -> dict[str, float | None]:
    geometry = voxels.grid.geometry
    return {
        **metrics.overlap_figures(overlap),
        **distance_figures(mask & voxels.brain, voxels.abnormal & voxels.brain, geometry.spacing),
        "false_positive_ml": overlap.false_positive * geometry.voxel_volume / 1000,
    }
