"""mmccd_run --healthy CONTROLS -i PATIENTS -o OUT: the whole job."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmccd_auto.cli.argument_types import number, path_name
from mmccd_auto.cli.common import add_device_option, add_processes_option, make_parser, run_command
from mmccd_auto.cli.options import add_brain_extraction_option, add_series_option


def _command(arguments: Sequence[str] | None) -> int:
    options = _make_parser().parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.workflows.run import LISTED_FAILURES, LOG_FILE, RunOptions, run_all

    result = run_all(
        options.input,
        options.output,
        RunOptions(
            training_hours=options.training_hours,
            modalities=tuple(options.modalities),
            series=tuple(options.series),
            backend=options.bet,
            overwrite=options.overwrite,
        ),
        choose_device(options.device),
        options.processes,
        healthy=options.healthy,
        model=options.model,
    )
    print(result.table)
    for message in result.failed[:LISTED_FAILURES]:
        print(f"error: {message}", file=sys.stderr)
    if len(result.failed) > LISTED_FAILURES:
        print(f"error: {len(result.failed) - LISTED_FAILURES} further cases failed: see {LOG_FILE}.", file=sys.stderr)
    print(f"open {result.page}" if result.page is not None else f"maps: {options.output}/maps")
    return 1 if result.failed else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("Train on healthy controls, predict patients and write a report; run again to continue.")
    parser.add_argument("-i", dest="input", required=True, metavar="PATIENTS", help="scans to predict: DICOM or NIfTI")
    parser.add_argument("-o", dest="output", required=True, metavar="OUT", help="folder of all results")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--healthy",
        default=None,
        metavar="CONTROLS",
        help="scans of people without abnormality: DICOM, NIfTI, or a dataset folder in the layout of nnU-Net",
    )
    source.add_argument(
        "--model",
        default=None,
        metavar="M",
        help="predict with this model: an installed name, a folder, or a dataset",
    )
    parser.add_argument(
        "--training_hours",
        type=number(0, 100_000, above=True),
        default=None,
        metavar="H",
        help="for all folds together; without it one fold is trained, for half an hour on a CPU and 12 hours on a GPU",
    )
    parser.add_argument(
        "--modalities",
        nargs="+",
        type=path_name("modality"),
        default=["FLAIR", "T1", "T2"],
        metavar="MODALITY",
        help="of the controls, to import in this order",
    )
    add_series_option(parser)
    add_brain_extraction_option(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="redo stages whose inputs or options have changed, and those after them"
    )
    add_processes_option(parser)
    add_device_option(parser)
    return parser


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
