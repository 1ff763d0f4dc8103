"""Predict the scans of a BIDS dataset, and write the maps as a derivative."""

from __future__ import annotations

import logging
import zlib
from pathlib import Path

import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import JsonObject, read_record
from mmccd_auto.core.wording import counted
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.inference.prediction.case_files import DONE, KEPT
from mmccd_auto.inference.prediction.cases.at_workers import ALL_HERE, Spread
from mmccd_auto.inference.prediction.derivative.case import write_derivative_case
from mmccd_auto.inference.prediction.derivative.dataset_files import RUNS_FOLDER, prepare_derivative
from mmccd_auto.inference.prediction.folder_run import RunSummary
from mmccd_auto.sources.bids.dataset import check_bids
from mmccd_auto.sources.bids.options import BidsOptions
from mmccd_auto.workflows.predict import load_predictor, run_predictor

ALL = "all"
MOST_NAMED = 3
logger = logging.getLogger(__name__)


def predict_bids(
    folders: Folders,
    source: str | Path,
    output: str | Path,
    options: PredictionOptions,
    device: torch.device,
    spread: Spread = ALL_HERE,
) -> list[str]:
    """Predict the scans of a BIDS dataset and write a derivative dataset.

    The run's own files (report.html, summary.csv, CASE.json) lie in ``runs/all``, or ``runs/sub-01`` where people are
    chosen, so that several runs for different people can write one derivative at the same time.

    Parameters
    ----------
    folders : results is used, unless ``options.models`` names model folders
    source : folder of the dataset
    output : folder of the derivative
    options : which model, how, and what is written; ``options.export.bids`` chooses people, sessions and runs
    device : to compute on

    Returns
    -------
    one sentence for each case that could not be predicted or written; empty when all went well

    Raises
    ------
    MMCCDError
        If the source is no BIDS dataset, the output holds something else, or as
        :func:`mmccd_auto.workflows.predict.predict`.
    """
    source, output = Path(source), Path(output)
    check_bids(source)
    predictor = load_predictor(folders, options, device, source, output)
    prepare_derivative(output, source, predictor.input_modality)
    run = output / RUNS_FOLDER / run_name(options.export.bids)
    summary = run_predictor(predictor, source, run, options, spread)
    return [*summary.failed, *_write_cases(summary, run, output)]


def run_name(options: BidsOptions) -> str:
    """Name the folder of a run by the people and sessions that it is of."""
    parts = []
    for prefix, labels in (("sub-", options.participants), ("ses-", options.sessions)):
        names = sorted({f"{prefix}{label.removeprefix(prefix)}" for label in labels})
        if len(names) > MOST_NAMED:
            code = zlib.crc32("\n".join(names).encode("utf-8", "surrogateescape"))
            names = [names[0], f"and-{len(names) - 1}-more-{code:08x}"]
        parts += names
    return "_".join(parts) or ALL


def _write_cases(summary: RunSummary, run: Path, output: Path) -> list[str]:
    """Write the finished cases of a run into the derivative; give a sentence for each that can't be written."""
    failed, written = [], 0
    for row in summary.rows:
        if row.status not in (DONE, KEPT):
            continue
        try:
            write_derivative_case(run, read_record(JsonObject, run / f"{row.case}.json"), output)
            written += 1
        except MMCCDError as error:
            failed.append(f"{row.case}: {error}")
    logger.info("%s in the derivative %s", counted(written, "case"), output)
    return failed
