"""mmccd_cross_validate DATASET: every fold predicts the cases that it held out, and the maps are judged."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.common import (
    add_device_option,
    add_extension_option,
    add_folder_options,
    add_processes_option,
    choose_device,
    folders_from,
    make_parser,
    run_command,
)
from mmccd_auto.cross_validate import cross_validate
from mmccd_auto.cross_validation_result import describe_cross_validation
from mmccd_auto.model_choice import PredictionOptions


def _command(arguments: Sequence[str] | None) -> None:
    parser = make_parser("Predict every training case by the fold that held it out, and judge the maps against labelsTr.")
    parser.add_argument("dataset", metavar="DATASET", help="number or name")
    parser.add_argument("-c", dest="configuration", default=None, help="modality cycle")
    parser.add_argument("-tr", dest="trainer", default=None, help="trainer class")
    parser.add_argument("-p", dest="plans_name", default=None, help="name of the plans")
    parser.add_argument("-f", dest="folds", nargs="+", default=None, metavar="FOLD", help="default: every trained fold")
    parser.add_argument("--overwrite", action="store_true", help="predict every case anew; else finished maps are kept")
    add_processes_option(parser)
    add_device_option(parser)
    add_extension_option(parser)
    add_folder_options(parser, "raw", "preprocessed", "results")
    options = parser.parse_args(arguments)
    result = cross_validate(
        folders_from(options),
        PredictionOptions(
            dataset=options.dataset,
            configuration=options.configuration,
            trainer=options.trainer,
            plans_name=options.plans_name,
            folds=tuple(options.folds) if options.folds else None,
            extensions=tuple(options.extensions),
        ),
        device=choose_device(options.device),
        processes=options.processes,
        overwrite=options.overwrite,
    )
    print(describe_cross_validation(result))


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(_command))
