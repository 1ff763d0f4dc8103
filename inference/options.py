"""What a user may ask of a prediction, and the defaults; loads nothing slow, so that mistakes are reported at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.sources.bids.options import ALL_PEOPLE, BidsOptions
from mmccd_auto.trained.query import ModelQuery

MOST_FITS = 2
"""Of bias field and intensity scale: a third one finds nothing that the second doesn't."""
PRESETS = ("balanced", "fast", "paper", "cyclic")
FLOAT32, BFLOAT16 = "float32", "bfloat16"
PRECISIONS = ("auto", FLOAT32, BFLOAT16)
SCORES = ("combined", "brighter", "darker", "squared")
"""combined: the larger of brighter and darker, the sign that lesions are not expected to have counting less.
squared: the published one."""
DEFAULT_SCORE = "combined"
DEFAULT_RATE = 0.005
MAX_SLICES = 96
"""Healthy slices of each fold that a calibration or a choice takes."""
LARGEST_TRIM_MM = 20.0
"""Of a brain's edge: what is further inside is no rim."""
PER_KIND = 4
"""Synthetic anomalies of each kind by which models are compared."""


@dataclass(frozen=True)
class ExportOptions:
    """What a user may ask where the input is a hospital's export or a BIDS dataset.

    Attributes
    ----------
    series : pattern by modality, see :func:`mmccd_auto.dicom.series.choose_series.choose_series`
    key_file : secret for pseudonyms that stay the same when the export grows; None numbers the cases
    link_file : where the table goes that leads from pseudonyms to people; None writes none
    dicom_seg : also write a DICOM Segmentation of the mask and a Parametric Map of the score
    keep_identity : file these with the patient, so that a PACS takes them; else they carry the pseudonym
    bids : which people, sessions and runs of a BIDS dataset
    """

    series: Mapping[str, str] = field(default_factory=dict)
    key_file: str | None = None
    link_file: str | None = None
    dicom_seg: bool = False
    keep_identity: bool = False
    bids: BidsOptions = ALL_PEOPLE


NIFTI_ONLY = ExportOptions()


@dataclass(frozen=True)
class MapOptions:
    """How maps are made; None leaves what the preset says.

    Attributes
    ----------
    preset : one of PRESETS, see :func:`mmccd_auto.inference.maps.settings.make_settings`
    sampling_steps, strip_stride, strips_per_pass, fits, batch_size : see
        :class:`mmccd_auto.inference.maps.settings.InferenceSettings`
    """

    preset: str = "balanced"
    sampling_steps: int | None = None
    strip_stride: int | None = None
    strips_per_pass: int | None = None
    fits: int | None = None
    batch_size: int | None = None


AS_PLANNED = MapOptions()


@dataclass(frozen=True)
class ScoreOptions:
    """Which score is written and how it is thresholded; None takes what is calibrated.

    Attributes
    ----------
    score : one of SCORES
    false_positive_rate : share of healthy tissue in the mask, which chooses its threshold
    threshold : instead of one by a rate, in the unit of the score
    least_lesion_mm3 : smaller components are candidates instead of lesions

    Raises
    ------
    MMCCDError
        If a value is out of range.
    """

    score: str | None = None
    false_positive_rate: float | None = None
    threshold: float | None = None
    least_lesion_mm3: float | None = None

    def __post_init__(self) -> None:
        if self.score is not None and self.score not in SCORES:
            raise MMCCDError(f"there is no score {self.score}: choose one of {', '.join(SCORES)}.")
        if self.false_positive_rate is not None:
            check_rate(self.false_positive_rate)
            if self.threshold is not None:
                raise MMCCDError("give either a false-positive rate or a threshold, not both.")
        if self.threshold is not None and not _is_amount(self.threshold):
            raise MMCCDError(f"the threshold {self.threshold} is no score: give a number that is 0 or larger.")
        if self.least_lesion_mm3 is not None and not _is_amount(self.least_lesion_mm3):
            raise MMCCDError(f"the least lesion volume {self.least_lesion_mm3} is impossible: give mm3, 0 or more.")


def check_rate(rate: float) -> None:
    """Raise :class:`MMCCDError` where ``rate`` can't be a false-positive rate."""
    if not 0 < rate < 1:
        raise MMCCDError(f"a false-positive rate of {rate} is impossible: give a share above 0 and below 1, such as 0.005.")


def _is_amount(value: float) -> bool:
    return math.isfinite(value) and value >= 0


@dataclass(frozen=True)
class LoadOptions(MapOptions, ScoreOptions):
    """How a model is loaded, and how it makes maps and scores.

    Attributes
    ----------
    folds : whose maps are averaged; None takes every finished one
    precision : see :func:`mmccd_auto.inference.maps.precision.choose_precision`
    extensions : folders with the user's own trainers (they are run as code)
    brain_extraction : backend for scans with skull; "auto" takes the best that is installed
    trim_edge_mm : by which brains are made smaller before they are looked at
    """

    folds: Sequence[str] | None = None
    precision: str = "auto"
    extensions: Sequence[str | Path] = ()
    brain_extraction: str = "auto"
    trim_edge_mm: float = 0.0


@dataclass(frozen=True)
class OutputOptions:
    """What is written of the cases of an input.

    Attributes
    ----------
    export : the user's wishes for DICOM and BIDS
    brain_masks : folder of brain masks, CASE.nii.gz, or as BIDS has them
    save_cycle : also write the mean reconstruction, the signed error and the two halves of the score
    save_control : also write the score without a network, which mmccd_evaluate sets beside the map
    continue_prediction : keep the cases that were finished by the same model and settings from the same scan
    input_only : use the input modality alone, also where the model can use others
    report : also write report.html, the page to open, and each case's part of it
    """

    export: ExportOptions = NIFTI_ONLY
    brain_masks: str | Path | None = None
    save_cycle: bool = False
    save_control: bool = False
    continue_prediction: bool = False
    input_only: bool = False
    report: bool = True


@dataclass(frozen=True)
class PredictionOptions(ModelQuery, LoadOptions, OutputOptions):
    """Which model or models predict, how, and what is written; see the command's help for each."""
