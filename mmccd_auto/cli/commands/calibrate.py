"""mmccd_calibrate DATASET, or --model MODEL -i HEALTHY_SCANS: calibrate the scores of a model again."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

from mmccd_auto.cli.argument_types import MOST_SLICES, path_name, whole
from mmccd_auto.cli.common import (
    add_device_option,
    add_extension_option,
    add_folder_options,
    folders_from,
    make_parser,
    run_command,
)
from mmccd_auto.cli.options import (
    ALL_RUNS,
    add_brain_extraction_option,
    add_fits_option,
    add_folds_option,
    add_model_options,
    add_runs_option,
    add_series_option,
    models_from,
)
from mmccd_auto.inference.options import MAX_SLICES, PredictionOptions
from mmccd_auto.sources.bids.options import BidsOptions


def _command(arguments: Sequence[str] | None) -> int:
    parser = make_parser(
        "Calibrate a model's scores again: on healthy held-out slices of its dataset (mmccd_train does it, too), or with "
        "-i on your own scans of healthy people, which makes a new model."
    )
    parser.add_argument("dataset", nargs="?", default=None, metavar="DATASET", help="number or name")
    add_model_options(parser)
    add_folds_option(parser)
    parser.add_argument(
        "--max_slices",
        type=whole(1, MOST_SLICES),
        default=None,
        metavar="N",
        help=f"healthy slices of each fold, {MAX_SLICES} by default; scans of -i count whole",
    )
    add_fits_option(parser, "2")
    _add_scan_options(parser)
    add_device_option(parser)
    add_extension_option(parser)
    add_folder_options(parser, "preprocessed", "results")
    options = parser.parse_args(arguments)
    fault = _fault(options)
    if fault:
        parser.error(fault)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.workflows.calibrate import calibrate, describe_calibration

    asked = replace(models_from(options), fits=options.fits)
    if options.healthy is not None:
        return _calibrate_on_scans(options, replace(asked, brain_extraction=options.bet))
    calibration = calibrate(
        folders_from(options), asked, device=choose_device(options.device), max_slices=options.max_slices or MAX_SLICES
    )
    print(describe_calibration(calibration))
    return 0


def _fault(options: argparse.Namespace) -> str:
    """Say which options don't belong together; empty where all have an effect."""
    of_scans = {
        "--name": options.name,
        "--labels": options.labels,
        "--ages": options.ages,
        "--series": options.series,
        "--overwrite": options.overwrite,
        "--runs": options.runs == ALL_RUNS,
        "--bet": options.bet != "auto",
    }
    if options.healthy is None:
        given = next((flag for flag, value in of_scans.items() if value), None)
        if options.dataset is None or options.models:
            return "give DATASET, or --model MODEL -i HEALTHY_SCANS"
        return f"{given}: it belongs to -i HEALTHY_SCANS" if given else ""
    if options.name is None:
        return "--name: give the new model a name, under which mmccd_predict --model finds it"
    if options.max_slices is not None:
        return "--max_slices: the scans of -i count whole"
    trained = options.dataset or options.configurations or options.trainer or options.plans_name
    if options.models and trained:
        return "--model names the model whole: leave out DATASET, -c, -tr and -p"
    return "" if options.models or options.dataset else "give DATASET or --model MODEL, to be calibrated on -i HEALTHY_SCANS"


def _add_scan_options(parser: argparse.ArgumentParser) -> None:
    """Add the user's own healthy scans, and what is known of them."""
    group = parser.add_argument_group("your own healthy scans")
    group.add_argument(
        "-m", "--model", dest="models", nargs=1, default=[], metavar="MODEL", help="an installed or ready model, or a folder"
    )
    group.add_argument(
        "-i", dest="healthy", default=None, metavar="SCANS", help="of healthy people, five or more: DICOM, BIDS or NIfTI"
    )
    group.add_argument(
        "--name", type=path_name("portable model"), default=None, metavar="NAME", help="of the new model that is installed"
    )
    group.add_argument("--overwrite", action="store_true", help="replace an installed model of this name")
    group.add_argument(
        "--labels",
        default=None,
        metavar="FOLDER",
        help="CASE.nii.gz, 1 where something abnormal is known, which is left out",
    )
    group.add_argument("--ages", default=None, metavar="TABLE", help="CSV or TSV with names and a column age; not for BIDS")
    add_series_option(group)
    add_runs_option(group)
    add_brain_extraction_option(group)


def _calibrate_on_scans(options: argparse.Namespace, asked: PredictionOptions) -> int:
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.workflows.sharing.calibrate_on_scans import HealthyScans, calibrate_on_scans

    healthy = HealthyScans(
        options.healthy,
        options.labels,
        options.ages,
        dict(options.series),
        BidsOptions(all_runs=options.runs == ALL_RUNS),
    )
    made = calibrate_on_scans(
        folders_from(options), asked, healthy, options.name, choose_device(options.device), options.overwrite
    )
    print(made.describe())
    for message in made.failed:
        print(f"error: {message}", file=sys.stderr)
    return 1 if made.failed else 0


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
