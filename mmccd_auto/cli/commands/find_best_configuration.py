"""mmccd_find_best_configuration DATASET: choose among trained models and settings, without labels."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.argument_types import MOST_SLICES, fold, whole
from mmccd_auto.cli.common import (
    add_device_option,
    add_extension_option,
    add_folder_options,
    folders_from,
    make_parser,
    run_command,
)
from mmccd_auto.cli.options import add_model_options, models_from
from mmccd_auto.inference.options import MAX_SLICES, PER_KIND


def _command(arguments: Sequence[str] | None) -> None:
    parser = make_parser("Choose steps, strips, score and model by synthetic anomalies in healthy held-out slices.")
    parser.add_argument("dataset", metavar="DATASET", help="number or name")
    add_model_options(parser, several=True)
    parser.add_argument(
        "-f", dest="folds", nargs=1, type=fold, default=None, metavar="FOLD", help="default: the first trained one"
    )
    parser.add_argument(
        "--per_kind", type=whole(1, 1000), default=PER_KIND, metavar="N", help="synthetic anomalies of each kind"
    )
    parser.add_argument("--max_slices", type=whole(1, MOST_SLICES), default=MAX_SLICES, metavar="N", help="healthy slices")
    parser.add_argument(
        "--restore", action="store_true", help="put back what was chosen and calibrated before the last change, and stop"
    )
    add_device_option(parser)
    add_extension_option(parser)
    add_folder_options(parser, "preprocessed", "results")
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.workflows.find_best_configuration import describe_best, find_best_configuration, restore_configuration

    if options.restore:
        changed = restore_configuration(folders_from(options), options.dataset)
        print("\n".join(["restored:", *changed]) if changed else "everything is as it was before: nothing to restore")
        return
    found = find_best_configuration(
        folders_from(options),
        options.dataset,
        models_from(options),
        device=choose_device(options.device),
        per_kind=options.per_kind,
        max_slices=options.max_slices,
    )
    print(describe_best(found))


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
