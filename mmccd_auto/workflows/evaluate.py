"""Judge maps against labels: what mmccd_evaluate does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmccd_auto.core.processes.executor import Workers
from mmccd_auto.datasets.dataset import read_label_values
from mmccd_auto.evaluation.compare import compare_folders, name_predictions
from mmccd_auto.evaluation.evaluate import ANOMALY_MAP, evaluate_folder
from mmccd_auto.evaluation.page import write_evaluation_page
from mmccd_auto.evaluation.table import comparison_table, evaluation_table


def evaluate(
    reference: str | Path,
    prediction: str | Path | Sequence[str | Path],
    images: str | Path | None = None,
    brain_masks: str | Path | None = None,
    output: str | Path | None = None,
    processes: Workers = 0,
    erosion_mm: float = 0.0,
    names: Sequence[str] | None = None,
    dataset_json: str | Path | None = None,
) -> str:
    """Judge predicted maps against labels, beside their control and the intensity baselines; returns a table to read.

    Parameters
    ----------
    prediction : a folder; or several, which are then compared on the same voxels
    names : of the folders, else each is called by its own name; given for one folder, it is compared with the baselines
    output : JSON file; beside it a page (.html) of the same name shows the figures and the cases' pictures
    dataset_json : file that says what the labels' values mean; None looks in and beside the folder of the labels
    others : as in :func:`mmccd_auto.evaluation.evaluate.evaluate_folder`

    Raises
    ------
    MMCCDError
        As :func:`mmccd_auto.evaluation.evaluate.evaluate_folder`, :func:`mmccd_auto.evaluation.compare.name_predictions`
        and :func:`mmccd_auto.evaluation.compare.compare_folders` do.
    """
    folders = [prediction] if isinstance(prediction, str | Path) else list(prediction)
    values = None if dataset_json is None else read_label_values(dataset_json)
    if len(folders) == 1 and names is None:
        result = evaluate_folder(reference, folders[0], images, brain_masks, output, processes, erosion_mm, values)
        if output is not None:
            write_evaluation_page(result, {ANOMALY_MAP: Path(folders[0])}, Path(output).with_suffix(".html"))
        return evaluation_table(result)
    methods = name_predictions(folders, names)
    compared = compare_folders(reference, methods, images, brain_masks, output, processes, erosion_mm, values)
    if output is not None:
        write_evaluation_page(compared, methods, Path(output).with_suffix(".html"))
    return comparison_table(compared)
