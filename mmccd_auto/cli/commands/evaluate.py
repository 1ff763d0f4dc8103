"""mmccd_evaluate -ref LABELS -pred OUT [OUT ...]: figures of the maps, of one model or several, and of the intensity."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.argument_types import number
from mmccd_auto.cli.cluster_options import add_cluster_option, workers_of
from mmccd_auto.cli.common import add_processes_option, make_parser, run_command


def _command(arguments: Sequence[str] | None) -> None:
    parser = make_parser("Compare maps with reference labels, beside a control without a network and the scan's intensity.")
    parser.add_argument("-ref", dest="reference", required=True, metavar="FOLDER", help="CASE.nii.gz labels")
    parser.add_argument(
        "-djfile",
        dest="dataset_json",
        default=None,
        metavar="FILE",
        help="dataset.json that names the labels' values; else the one in or beside the folder of -ref, else 0 and 1 only",
    )
    parser.add_argument(
        "-pred",
        dest="predictions",
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="what mmccd_predict wrote; several folders of the same cases are compared",
    )
    parser.add_argument(
        "--names", nargs="+", default=None, metavar="NAME", help="what to call these folders; else by their own names"
    )
    parser.add_argument("-i", dest="images", default=None, metavar="FOLDER", help="the scans, where they have moved since")
    parser.add_argument("--brain_masks", default=None, metavar="FOLDER", help="CASE.nii.gz brain masks")
    parser.add_argument("--erosion", type=number(0, 1000), default=0.0, metavar="MM", help="leave out this rim of the brain")
    parser.add_argument("-o", dest="output", default=None, metavar="FILE.json", help="where the figures go")
    add_processes_option(parser)
    add_cluster_option(parser)
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.evaluation.judging import EvaluationOptions
    from mmccd_auto.workflows.evaluate import evaluate

    with workers_of(options.cluster, options.processes) as workers:
        table = evaluate(
            reference=options.reference,
            prediction=options.predictions,
            options=EvaluationOptions(options.images, options.brain_masks, options.erosion),
            output=options.output,
            processes=workers,
            names=options.names,
            dataset_json=options.dataset_json,
        )
    print(table)


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
