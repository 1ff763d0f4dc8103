"""mmccd_bids BIDS OUT participant: anomaly maps of a BIDS dataset, by the command line of a BIDS app."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.common import folders_from, make_parser, run_command
from mmccd_auto.cli.options import ALL_RUNS
from mmccd_auto.cli.prediction_options import add_prediction_options, prediction_from
from mmccd_auto.core.wording import counted
from mmccd_auto.inference.options import ExportOptions
from mmccd_auto.sources.bids.options import BidsOptions

PARTICIPANT, GROUP = "participant", "group"


def _command(arguments: Sequence[str] | None) -> int:
    parser = make_parser("Predict anomaly maps of a BIDS dataset and write them as a derivative.")
    parser.add_argument("bids", metavar="BIDS", help="folder of the dataset")
    parser.add_argument("output", metavar="OUT", help="folder of the derivative, such as BIDS/derivatives/mmccd_auto")
    parser.add_argument(
        "level",
        choices=(PARTICIPANT, GROUP),
        help="participant: maps of people, finished ones are kept; group: tables of all maps in OUT",
    )
    parser.add_argument(
        "--participant-label",
        "--participant_label",
        dest="participants",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="people, with or without sub-; without the option all",
    )
    parser.add_argument(
        "--session-label",
        "--session_label",
        dest="sessions",
        nargs="+",
        default=[],
        metavar="LABEL",
        help="sessions, with or without ses-; without the option all",
    )
    parser.add_argument(
        "--skip-bids-validation",
        "--skip_bids_validation",
        dest="skip_validation",
        action="store_true",
        help="don't check the dataset by bids-validator-deno, where it is installed",
    )
    add_prediction_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="predict finished cases again")
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    if options.level == GROUP:
        from mmccd_auto.inference.prediction.derivative.group import write_group_tables

        cases, lesions = write_group_tables(options.output)
        print(f"{counted(cases, 'case')} with {counted(lesions, 'lesion')}: {options.output}")
        return 0
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.sources.bids.dataset import check_bids
    from mmccd_auto.workflows.bids.predict import predict_bids
    from mmccd_auto.workflows.bids.validate import validate

    check_bids(options.bids)
    if not options.skip_validation:
        validate(options.bids)
    chosen = BidsOptions(tuple(options.participants), tuple(options.sessions), options.runs == ALL_RUNS)
    export = ExportOptions(series=dict(options.series), bids=chosen)
    prediction = prediction_from(options, export, not options.overwrite)
    device = choose_device(options.device)
    failed = predict_bids(folders_from(options), options.bids, options.output, prediction, device)
    for message in failed:
        print(f"error: {message}", file=sys.stderr)
    return 1 if failed else 0


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
