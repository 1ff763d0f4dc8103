"""Whose maps the DICOM objects of the tests hold, and what their values mean."""

from mmccd_auto.dicom.writing.score_meaning import ScoreMeaning
from mmccd_auto.trained.identity import ModelIdentity

MODEL = ModelIdentity(
    model="MMCCDTrainer__mmccdPlans__FLAIR-T1",
    dataset="Dataset900_Tiny",
    trainer="MMCCDTrainer",
    plans="mmccdPlans",
    configuration="FLAIR-T1",
    input_modality="FLAIR",
    slice_axis="axial",
    folds=("fold_0",),
    weights_sha256={"fold_0": "ab" * 32},
)
MEANING = ScoreMeaning("combined", calibrated=True, threshold=0.125, false_positive_rate=0.005)
