"""mmccd_calibrate DATASET: calibrate the scores of a trained model again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from mmccd_auto.cli.argument_types import MOST_SLICES, whole
from mmccd_auto.cli.common import (
    add_device_option,
    add_extension_option,
    add_folder_options,
    folders_from,
    make_parser,
    run_command,
)
from mmccd_auto.cli.options import add_fits_option, add_folds_option, add_model_options, models_from
from mmccd_auto.inference.options import MAX_SLICES


def _command(arguments: Sequence[str] | None) -> None:
    parser = make_parser("Calibrate a trained model's scores again on healthy held-out slices (mmccd_train does it, too).")
    parser.add_argument("dataset", metavar="DATASET", help="number or name")
    add_model_options(parser)
    add_folds_option(parser)
    parser.add_argument(
        "--max_slices", type=whole(1, MOST_SLICES), default=MAX_SLICES, metavar="N", help="healthy slices of each fold"
    )
    add_fits_option(parser, "2")
    add_device_option(parser)
    add_extension_option(parser)
    add_folder_options(parser, "preprocessed", "results")
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.workflows.calibrate import calibrate, describe_calibration

    calibration = calibrate(
        folders_from(options),
        replace(models_from(options), fits=options.fits),
        device=choose_device(options.device),
        max_slices=options.max_slices,
    )
    print(describe_calibration(calibration))


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
