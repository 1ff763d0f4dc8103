"""Where white matter and no signal lie in the normalised intensities of the training cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.preprocessing.slices import CaseRecord, case_record_path
from mmccd_auto.synthetic_anomalies.batched.tissues import UNKNOWN_SCALE, ModalityScale
from mmccd_auto.synthetic_anomalies.physical import SEQUENCE_OF_CONTRAST, WHITE_MATTER_PERCENTILE
from mmccd_auto.training.data.data_loading import TrainingSlice, read_channels

MOST_SLICES = 64


def measure_scales(
    preprocessed: Path, slices: Sequence[TrainingSlice], modalities: Sequence[str]
) -> tuple[ModalityScale, ...]:
    """Measure the levels of white matter and of no signal, in the order of ``modalities``.

    White matter is a percentile of the brain's intensities, as for the anomalies that models are chosen by, over 64 slices
    that are spread evenly. No signal is the raw value 0, or the darkest brain where scans were shifted below 0; the median
    over the cases.

    Parameters
    ----------
    preprocessed : the plan's folder with CASE.json
    slices : healthy ones to train on, not empty
    modalities : the first ones that the training is shown; one that no case has gets the scale of what isn't known
    """
    chosen = np.unique(np.linspace(0, len(slices) - 1, MOST_SLICES).round().astype(int))
    images = [read_channels(slices[index]) for index in chosen]
    records = [CaseRecord.load(case_record_path(preprocessed, case)) for case in sorted({one.case for one in slices})]
    scales = []
    for channel, modality in enumerate(modalities):
        brain = np.concatenate([image[channel][image[channel] != BACKGROUND] for image in images])
        name = SEQUENCE_OF_CONTRAST.get(contrast(modality), "FLAIR")
        parameters = [record.normalisation[modality] for record in records if modality in record.normalisation]
        if not brain.size:
            scales.append(ModalityScale(modality, *UNKNOWN_SCALE))
            continue
        zeros = [min(BACKGROUND, BACKGROUND - one["shift"] * one["scale"]) for one in parameters]
        white = float(np.percentile(brain, WHITE_MATTER_PERCENTILE[name]))
        scales.append(ModalityScale(modality, white, float(np.median(zeros))))
    return tuple(scales)
