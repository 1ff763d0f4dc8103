"""Judge maps against labels: what mmccd_evaluate does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mmccd_auto.core.processes.executor import Workers
from mmccd_auto.datasets.dataset import read_label_values
from mmccd_auto.evaluation.compare import compare_folders, name_predictions
from mmccd_auto.evaluation.evaluate import ANOMALY_MAP, evaluate_folder
from mmccd_auto.evaluation.judging import WHOLE_BRAIN, EvaluationOptions
from mmccd_auto.evaluation.page import write_evaluation_page
from mmccd_auto.evaluation.table import comparison_table, evaluation_table


def evaluate(
    reference: str | Path,
    prediction: str | Path | Sequence[str | Path],
    options: EvaluationOptions = WHOLE_BRAIN,
    output: str | Path | None = None,
    processes: Workers = 0,
    names: Sequence[str] | None = None,
    dataset_json: str | Path | None = None,
) -> str:
    """Judge predicted maps against labels, beside their control and the intensity baselines; returns a table to read.

    Parameters
    ----------
    reference : folder of CASE.nii.gz labels
    prediction : folder that ``mmccd_predict`` wrote; or several, which are then compared on the same voxels
    options : what is judged, and with what beside it
    names : of the folders, else each is called by its own name; given for one folder, it is compared with the baselines
    output : JSON file; beside it a page (.html) of the same name shows the figures and the cases' pictures
    dataset_json : file that says what the labels' values mean, instead of ``options.label_values``
    processes : workers; 0 works in this process

    Raises
    ------
    MMCCDError
        As :func:`mmccd_auto.evaluation.evaluate.evaluate_folder`, :func:`mmccd_auto.evaluation.compare.name_predictions`
        and :func:`mmccd_auto.evaluation.compare.compare_folders` do.
    """
    folders = [Path(prediction)] if isinstance(prediction, str | Path) else [Path(one) for one in prediction]
    reference, output = Path(reference), None if output is None else Path(output)
    if dataset_json is not None:
        options = replace(options, label_values=read_label_values(dataset_json))
    if len(folders) == 1 and names is None:
        result = evaluate_folder(reference, folders[0], options, output, processes)
        if output is not None:
            write_evaluation_page(result, {ANOMALY_MAP: folders[0]}, output.with_suffix(".html"))
        return evaluation_table(result)
    methods = name_predictions(folders, names)
    compared = compare_folders(reference, methods, options, output, processes)
    if output is not None:
        write_evaluation_page(compared, methods, output.with_suffix(".html"))
    return comparison_table(compared)
