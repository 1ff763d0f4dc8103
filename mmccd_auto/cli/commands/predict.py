"""mmccd_predict -i in -o out: anomaly maps in the scans' own geometry."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mmccd_auto.cli.cluster_options import add_cluster_option, add_part_option, workers_of
from mmccd_auto.cli.common import folders_from, make_parser, run_command
from mmccd_auto.cli.options import ALL_RUNS, add_link_option
from mmccd_auto.cli.prediction_options import add_prediction_options, prediction_from
from mmccd_auto.inference.options import ExportOptions
from mmccd_auto.sources.bids.options import BidsOptions


def _command(arguments: Sequence[str] | None) -> int:
    parser = make_parser("Predict anomaly maps; only the input modality of each scan is needed.")
    parser.add_argument(
        "-i",
        dest="input",
        required=True,
        metavar="INPUT",
        help="DICOM (folder, zip archive), a BIDS dataset, a folder of NIfTI files, or one file",
    )
    parser.add_argument("-o", dest="output", required=True, metavar="FOLDER", help="where the maps go")
    parser.add_argument(
        "--bids", action="store_true", help="the input is a BIDS dataset, and the maps are written as a derivative of it"
    )
    add_prediction_options(parser)
    parser.add_argument("--pseudonym_key", default=None, metavar="FILE", help="DICOM: secret for pseudonyms that last")
    add_link_option(parser)
    parser.add_argument("--dicom_seg", action="store_true", help="DICOM: also write the mask and the score as DICOM")
    parser.add_argument("--keep_identity", action="store_true", help="file these DICOM objects with the patient, for a PACS")
    parser.add_argument("--continue_prediction", action="store_true", help="keep the cases that are finished")
    parser.add_argument("--overwrite", action="store_true", help="predict every case again (the default)")
    add_cluster_option(parser)
    add_part_option(parser)
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are reported before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.inference.prediction.cases.at_workers import Spread
    from mmccd_auto.workflows.bids.predict import predict_bids
    from mmccd_auto.workflows.predict import elsewhere, predict

    export = ExportOptions(
        series=dict(options.series),
        key_file=options.pseudonym_key,
        link_file=options.link,
        dicom_seg=options.dicom_seg,
        keep_identity=options.keep_identity,
        bids=BidsOptions(all_runs=options.runs == ALL_RUNS),
    )
    predicted = predict_bids if options.bids else predict
    folders = folders_from(options)
    wishes = prediction_from(options, export, options.continue_prediction and not options.overwrite)
    # What leads a cluster's workers needs no GPU.
    device = choose_device(options.device if options.cluster is None else "cpu")
    with workers_of(options.cluster, 0) as workers:
        # Of processes of this machine there are none: without a cluster this process predicts.
        away = (
            None
            if isinstance(workers, int)
            else elsewhere(workers, folders, wishes, options.input, options.output, options.device)
        )
        spread = Spread(away, options.part)
        failed = predicted(folders, options.input, options.output, wishes, device, spread)
    for message in failed:
        print(f"error: {message}", file=sys.stderr)
    return 1 if failed else 0


def main() -> None:
    """Run the command: entry point of the console script."""
    sys.exit(run_command(_command))
