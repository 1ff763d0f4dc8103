"""mmccd_train DATASET FOLD: train both networks of a modality cycle, then calibrate the maps."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmccd_auto.cli.argument_types import fold, path_name, whole
from mmccd_auto.cli.common import (
    add_device_option,
    add_extension_option,
    add_folder_options,
    add_processes_option,
    folders_from,
    make_parser,
    run_command,
)
from mmccd_auto.plans.plan import MOST_EPOCHS, MOST_ITERATIONS

if TYPE_CHECKING:
    import torch

    from mmccd_auto.training.ranks import Ranks

logger = logging.getLogger(__name__)


def _command(arguments: Sequence[str] | None) -> None:
    options = _make_parser().parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.training.ranks import join_ranks, leave_ranks

    ranks, device = join_ranks(os.environ, choose_device(options.device))
    if not ranks.leads:
        # All of them do the same: one reports it.
        logging.getLogger().setLevel(logging.WARNING)
    try:
        model = _train(options, ranks, device)
    except KeyboardInterrupt:
        if options.overwrite:
            logger.warning("run the command without --overwrite to go on with what is trained by now.")
        raise
    leave_ranks()
    if ranks.leads:
        print(f"trained: {model}")


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("Train both networks of a modality cycle on the healthy slices of a dataset.")
    parser.add_argument("dataset", metavar="DATASET", help="number or name")
    parser.add_argument("fold", metavar="FOLD", type=fold, help="0..4, or all to train on every case")
    parser.add_argument(
        "-c",
        dest="configuration",
        type=path_name("configuration"),
        default=None,
        metavar="CYCLE",
        help="modality cycle, as FLAIR-T1; default: the plan's",
    )
    parser.add_argument(
        "-tr",
        dest="trainer",
        type=path_name("trainer"),
        default=None,
        metavar="CLASS",
        help="trainer class; default: MMCCDTrainer",
    )
    parser.add_argument(
        "-p",
        dest="plans_name",
        type=path_name("plans"),
        default=None,
        metavar="NAME",
        help="name of the plans; default: mmccdPlans, or the only ones that are there",
    )
    parser.add_argument("--num_epochs", type=whole(1, MOST_EPOCHS), default=None, metavar="N", help="instead of the plan's")
    parser.add_argument(
        "--iterations_per_epoch", type=whole(1, MOST_ITERATIONS), default=None, metavar="N", help="instead of the plan's"
    )
    parser.add_argument(
        "--from",
        dest="start_from",
        default=None,
        metavar="MODEL",
        help="start from the weights of an installed or ready model, or of a model folder, with its trainer (ready: of the "
        "input modality)",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--overwrite", action="store_true", help="start over, also where a finished or half-finished training is there"
    )
    again.add_argument(
        "--continue",
        dest="resume",
        action="store_true",
        help="go on with a half-finished training; that is what happens without it, too",
    )
    parser.add_argument(
        "--planned_steps",
        action="store_true",
        help="predict with the planned steps and strips, instead of the cheapest that find synthetic anomalies as well",
    )
    add_processes_option(parser, default=2)
    add_device_option(parser)
    add_extension_option(parser)
    add_folder_options(parser, "raw", "preprocessed", "results")
    return parser


def _train(options: argparse.Namespace, ranks: Ranks, device: torch.device) -> Path:
    from mmccd_auto.training.options import TrainingMachine
    from mmccd_auto.workflows.train import TrainingOptions, train

    return train(
        folders_from(options),
        dataset=options.dataset,
        fold=options.fold,
        options=TrainingOptions(
            configuration=options.configuration,
            trainer=options.trainer,
            plans_name=options.plans_name,
            num_epochs=options.num_epochs,
            iterations_per_epoch=options.iterations_per_epoch,
            choose_steps=not options.planned_steps,
            start_from=options.start_from,
            extensions=tuple(options.extensions),
        ),
        machine=TrainingMachine(device, options.processes, ranks),
        overwrite=options.overwrite,
    )


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
