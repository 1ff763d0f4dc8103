"""mmccd_pacs --state FOLDER --dicomweb URL: new studies of a clinic's archive are predicted and filed there."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.common import folders_from, make_parser, run_command
from mmccd_auto.cli.pacs_options import access_from, add_pacs_options, pacs_options_from
from mmccd_auto.cli.prediction_options import add_prediction_options, prediction_from
from mmccd_auto.inference.options import ExportOptions


def _command(arguments: Sequence[str] | None) -> int:
    parser = make_parser("Predict the new brain studies of a clinic's archive, and file mask, score and report with them.")
    add_pacs_options(parser)
    add_prediction_options(parser)
    options = parser.parse_args(arguments)
    access, watched = access_from(options), pacs_options_from(options)
    # Loading what works takes seconds: help and mistakes in the options are told before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.workflows.pacs.serve import serve_pacs

    prediction = prediction_from(options, ExportOptions(series=dict(options.series)), keep_finished=False)
    failed = serve_pacs(folders_from(options), prediction, watched, access, choose_device(options.device))
    for message in failed:
        print(f"error: {message}", file=sys.stderr)
    return 1 if failed else 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(_command))
