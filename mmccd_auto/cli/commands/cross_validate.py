"""mmccd_cross_validate DATASET: every fold predicts the cases that it held out, and the maps are judged."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.common import (
    add_device_option,
    add_extension_option,
    add_folder_options,
    add_processes_option,
    folders_from,
    make_parser,
    run_command,
)
from mmccd_auto.cli.options import add_folds_option, add_model_options, models_from


def _command(arguments: Sequence[str] | None) -> None:
    parser = make_parser("Predict every training case by the fold that held it out, and judge the maps against labelsTr.")
    parser.add_argument("dataset", metavar="DATASET", help="number or name")
    add_model_options(parser)
    add_folds_option(parser)
    parser.add_argument("--overwrite", action="store_true", help="predict every case again; else finished maps are kept")
    add_processes_option(parser)
    add_device_option(parser)
    add_extension_option(parser)
    add_folder_options(parser, "raw", "preprocessed", "results")
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.evaluation.cross_validation import describe_cross_validation
    from mmccd_auto.workflows.cross_validate import cross_validate

    result = cross_validate(
        folders_from(options),
        models_from(options),
        device=choose_device(options.device),
        processes=options.processes,
        overwrite=options.overwrite,
    )
    print(describe_cross_validation(result))


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
