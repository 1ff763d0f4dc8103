"""What a user may ask of a prediction, and the defaults; loads nothing else, so that help and mistakes are told at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
class PredictionOptions(ModelQuery):
    """Which model or models predict, how, and what is written; see the command's help for each.

    Attributes
    ----------
    brain_masks : folder of brain masks, CASE.nii.gz, or as BIDS has them
    save_cycle : also write the mean reconstruction, the signed error and the two halves of the score
    save_control : also write the score without a network, which mmccd_evaluate sets beside the map
    continue_prediction : keep the cases that are finished
    input_only : use the input modality alone, also where the model can use others
    report : also write report.html, the page to open
    """

    folds: tuple[str, ...] | None = None
    preset: str = "balanced"
    sampling_steps: int | None = None
    strip_stride: int | None = None
    strips_per_pass: int | None = None
    fits: int | None = None
    precision: str = "auto"
    batch_size: int | None = None
    score: str | None = None
    false_positive_rate: float | None = None
    threshold: float | None = None
    least_lesion_mm3: float | None = None
    extensions: tuple[str, ...] = ()
    brain_extraction: str = "auto"
    export: ExportOptions = NIFTI_ONLY
    brain_masks: str | None = None
    save_cycle: bool = False
    save_control: bool = False
    continue_prediction: bool = False
    input_only: bool = False
    report: bool = True
