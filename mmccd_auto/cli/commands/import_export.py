"""mmccd_import -i EXPORT -d 7 -n MyHospital: a hospital export becomes a raw dataset."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmccd_auto.cli.argument_types import path_name, whole
from mmccd_auto.cli.cluster_options import add_cluster_option, add_part_option, workers_of
from mmccd_auto.cli.common import add_folder_options, add_processes_option, folders_from, make_parser, run_command
from mmccd_auto.cli.options import ALL_RUNS, add_brain_extraction_option, add_link_option, add_runs_option, add_series_option
from mmccd_auto.datasets.health import HEALTHY, LABELLED, UNKNOWN

if TYPE_CHECKING:
    from mmccd_auto.importing.import_dataset import ImportSummary


def _command(arguments: Sequence[str] | None) -> int:
    parser = _make_parser()
    options = parser.parse_args(arguments)
    summary = _import(options, health_from(parser, options))
    for message in summary.notes:
        print(f"note: {message}", file=sys.stderr)
    for message in summary.failed:
        print(f"error: {message}", file=sys.stderr)
    print(f"imported {len(summary.imported)} {'case' if len(summary.imported) == 1 else 'cases'}: {summary.dataset}")
    if summary.imported:
        print(summary.health)
    if options.part is not None:
        print(f"this was part {options.part}: once all parts are imported, run the same command without --part")
        return 1 if summary.failed else 0
    return 1 if summary.failed or not summary.imported else 0


def _make_parser() -> argparse.ArgumentParser:
    parser = make_parser("Turn a hospital export (DICOM or NIfTI, skull on, any grids) into a raw dataset.")
    parser.add_argument(
        "-i", dest="input", required=True, metavar="EXPORT", help="folder (a BIDS dataset, say), zip archive or DICOMDIR"
    )
    parser.add_argument("-d", dest="number", type=whole(0, 999), required=True, metavar="NUMBER", help="of the new dataset")
    parser.add_argument("-n", dest="name", required=True, metavar="NAME", help="of the new dataset")
    add_health_options(parser)
    parser.add_argument(
        "--modalities",
        nargs="+",
        type=path_name("modality"),
        default=["FLAIR", "T1", "T2"],
        metavar="MODALITY",
        help="to import, in this order",
    )
    parser.add_argument(
        "--reference", default=None, metavar="MODALITY", help="modality that keeps its grid; default FLAIR, else T2, T1C, T1"
    )
    add_series_option(parser)
    add_runs_option(parser)
    add_brain_extraction_option(parser)
    parser.add_argument(
        "--brain_masks",
        default=None,
        metavar="FOLDER",
        help="brain masks on the reference's grid: CASE.nii.gz, or a BIDS dataset or derivative with desc-brain masks",
    )
    parser.add_argument("--pseudonym_key", default=None, metavar="FILE", help="secret for pseudonyms that last")
    add_link_option(parser)
    parser.add_argument("--keep_head", action="store_true", help="leave skull and face in the images")
    parser.add_argument("--overwrite", action="store_true", help="import cases again that are there")
    add_processes_option(parser)
    add_cluster_option(parser)
    add_part_option(parser)
    add_folder_options(parser, "raw")
    return parser


def _import(options: argparse.Namespace, health: str) -> ImportSummary:
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.importing.import_dataset import ImportOptions
    from mmccd_auto.sources.bids.options import BidsOptions
    from mmccd_auto.workflows.import_export import import_export

    wishes = ImportOptions(
        health=health,
        labels=options.labels,
        label_values=tuple(options.label_values),
        modalities=tuple(options.modalities),
        reference=options.reference,
        series=dict(options.series),
        backend=options.bet,
        key_file=options.pseudonym_key,
        link_file=options.link,
        keep_head=options.keep_head,
        overwrite=options.overwrite,
        brain_masks=options.brain_masks,
        bids=BidsOptions(all_runs=options.runs == ALL_RUNS),
    )
    with workers_of(options.cluster, options.processes) as workers:
        return import_export(
            folders_from(options), options.input, options.number, options.name, wishes, workers, options.part
        )


def add_health_options(parser: argparse.ArgumentParser) -> None:
    """Add --healthy, --labels and --patients, of which one has to be given."""
    who = parser.add_argument_group("who is in the export (one of these has to be given)")
    who.add_argument("--healthy", action="store_true", help="all people are without abnormality: they train")
    who.add_argument(
        "--labels",
        default=None,
        metavar="FOLDER",
        help="people may be abnormal where labels (CASE.nii.gz, on the grid of one of the scans; or the lesion masks of a "
        "BIDS dataset or derivative) say so; the rest trains",
    )
    who.add_argument("--patients", action="store_true", help="people may be abnormal and nothing is marked: nothing trains")
    who.add_argument(
        "--label_values",
        nargs="+",
        type=whole(1, 65535),
        default=[1],
        metavar="VALUE",
        help="of the labels, that mark what is abnormal",
    )


def health_from(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """Give what the people of the export count as; ends the command with a sentence where that isn't said."""
    given = [(options.healthy, HEALTHY), (options.labels is not None, LABELLED), (options.patients, UNKNOWN)]
    kinds = [kind for is_given, kind in given if is_given]
    if len(kinds) == 1:
        return kinds[0]
    parser.error(
        ("only one of these can be given" if kinds else "say who is in the export")
        + ": --healthy (all people are without abnormality), --labels FOLDER (labels mark what is abnormal) or --patients "
        "(people may be abnormal and nothing is marked: they never train)"
    )


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
