"""mmccd_plan_and_preprocess: fingerprint -> plans -> normalised npz slices."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmccd_auto.cli.argument_types import number, path_name
from mmccd_auto.cli.cluster_options import add_cluster_option, add_part_option, workers_of
from mmccd_auto.cli.common import (
    add_device_option,
    add_extension_option,
    add_folder_options,
    add_processes_option,
    folders_from,
    make_parser,
    run_command,
)
from mmccd_auto.plans.plan import SPACING_LIMITS_MM


def _command(arguments: Sequence[str] | None) -> int:
    failed = _plan_and_preprocess(_make_parser().parse_args(arguments))
    for message in failed:
        print(f"error: {message}", file=sys.stderr)
    return 1 if failed else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("Fingerprint datasets, plan for them and write their normalised slices.")
    parser.add_argument(
        "-d", dest="datasets", nargs="+", default=None, metavar="DATASET", help="numbers or names; without it every dataset"
    )
    parser.add_argument(
        "-pl", dest="planner", default=None, metavar="CLASS", help="planner class, for a plan without a training budget"
    )
    _add_planning_options(parser)
    parser.add_argument("--verify_dataset_integrity", action="store_true", help="check every file before planning")
    parser.add_argument("--no_pp", action="store_true", help="stop after planning")
    parser.add_argument("--overwrite", "--clean", action="store_true", help="redo what an earlier run has left")
    add_processes_option(parser)
    add_cluster_option(parser)
    add_part_option(parser)
    add_device_option(parser)
    add_extension_option(parser)
    add_folder_options(parser, "raw", "preprocessed")
    return parser


def _add_planning_options(parser: argparse.ArgumentParser) -> None:
    """Add the training budget, the resolution, and what else the plan is made for."""
    parser.add_argument(
        "--training_hours",
        type=number(0, 100_000, above=True),
        default=None,
        metavar="H",
        help="that one fold may take to train; without it half an hour on a CPU, 12 hours on a GPU",
    )
    parser.add_argument(
        "--resolution",
        default=None,
        choices=("lowres", "standard", "fullres"),
        help="largest patch edge: 64 px, 128 px, 256 px; each has plans of its own; without it what the training "
        "budget allows",
    )
    parser.add_argument(
        "-gpu_memory_target",
        type=number(0, 10_000, above=True),
        default=None,
        metavar="GB",
        help="without it what the device has, 8 if unknown",
    )
    parser.add_argument(
        "-overwrite_target_spacing",
        type=number(*SPACING_LIMITS_MM),
        default=None,
        metavar="MM",
        help="pixel edge in the slice",
    )
    parser.add_argument(
        "-overwrite_plans_name", type=path_name("plans"), default=None, metavar="NAME", help="name of the plans"
    )
    parser.add_argument(
        "--time_budget",
        type=number(0, 1_000_000, above=True),
        default=10.0,
        metavar="MINUTES",
        help="per case at prediction; the number of diffusion steps and strips is planned to fit",
    )


def _plan_and_preprocess(options: argparse.Namespace) -> list[str]:
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.workflows.plan_and_preprocess import PlanningOptions, PreparationOptions, plan_and_preprocess

    planning = PlanningOptions(
        planner=options.planner,
        resolution=options.resolution,
        memory_budget_gb=options.gpu_memory_target,
        target_spacing=options.overwrite_target_spacing,
        plans_name=options.overwrite_plans_name,
        time_budget_minutes=options.time_budget,
        extensions=tuple(options.extensions),
        training_hours=options.training_hours,
    )
    preparing = PreparationOptions(
        verify=options.verify_dataset_integrity, preprocess=not options.no_pp, overwrite=options.overwrite
    )
    with workers_of(options.cluster, options.processes) as workers:
        return plan_and_preprocess(
            folders_from(options),
            datasets=options.datasets,
            planning=planning,
            device=choose_device(options.device),
            processes=workers,
            preparing=preparing,
            part=options.part,
        )


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
