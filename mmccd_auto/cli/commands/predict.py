"""mmccd_predict -i in -o out: anomaly maps in the scans' own geometry."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from mmccd_auto.cli.argument_types import number, whole
from mmccd_auto.cli.common import (
    add_device_option,
    add_extension_option,
    add_folder_options,
    folders_from,
    make_parser,
    run_command,
)
from mmccd_auto.cli.options import (
    ALL_RUNS,
    add_brain_extraction_option,
    add_fits_option,
    add_folds_option,
    add_link_option,
    add_model_options,
    add_runs_option,
    add_series_option,
    models_from,
)
from mmccd_auto.inference.options import DEFAULT_RATE, DEFAULT_SCORE, PRECISIONS, PRESETS, SCORES, ExportOptions
from mmccd_auto.plans.plan import LARGEST_EDGE, LARGEST_STRIPS_PER_PASS, MOST_TIMESTEPS
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
        "-m",
        "--model",
        dest="models",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="an installed model's name (see mmccd_models), ready where such a model was built into the package, or a "
        "model's folder; the maps of several are averaged",
    )
    parser.add_argument(
        "-d",
        dest="dataset",
        default=None,
        metavar="DATASET",
        help="the model's dataset; not needed where there is one model",
    )
    add_model_options(parser, several=True)
    add_folds_option(parser)
    parser.add_argument("--preset", default="balanced", choices=PRESETS, help="steps and strips")
    parser.add_argument(
        "--sampling_steps", type=whole(1, MOST_TIMESTEPS), default=None, metavar="N", help="instead of the preset's"
    )
    parser.add_argument(
        "--strip_stride", type=whole(1, LARGEST_EDGE), default=None, metavar="PX", help="instead of the preset's"
    )
    parser.add_argument(
        "--strips_per_pass",
        type=whole(0, LARGEST_STRIPS_PER_PASS),
        default=None,
        metavar="N",
        help="hidden together, instead of the preset's; 0: none",
    )
    add_fits_option(parser, "as for the calibration")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS, help="auto: what is quicker, on a GPU")
    parser.add_argument(
        "--batch_size",
        type=whole(1, 65536),
        default=None,
        metavar="N",
        help="strips per network evaluation; the map stays the same",
    )
    parser.add_argument(
        "--brain_masks", default=None, metavar="FOLDER", help="CASE.nii.gz brain masks; of BIDS also desc-brain masks"
    )
    parser.add_argument(
        "--score", default=None, choices=SCORES, help=f"default: {DEFAULT_SCORE}; squared is the published one"
    )
    parser.add_argument(
        "--fpr",
        type=number(0, 1, above=True, below=True),
        default=None,
        metavar="SHARE",
        help=f"of healthy tissue in the mask (default {DEFAULT_RATE})",
    )
    parser.add_argument(
        "--threshold", type=number(0, 1e9), default=None, metavar="SCORE", help="of the mask, instead of one by --fpr"
    )
    parser.add_argument(
        "--min_lesion", type=number(0, 1e9), default=None, metavar="MM3", help="instead of the calibrated volume"
    )
    parser.add_argument("--save_cycle", action="store_true", help="also write brighter, darker, signed error and mean cycle")
    parser.add_argument(
        "--save_control", action="store_true", help="also write the control: the score without a network, for mmccd_evaluate"
    )
    add_series_option(parser)
    add_runs_option(parser)
    add_brain_extraction_option(parser)
    parser.add_argument("--pseudonym_key", default=None, metavar="FILE", help="DICOM: secret for pseudonyms that last")
    add_link_option(parser)
    parser.add_argument("--dicom_seg", action="store_true", help="DICOM: also write the mask and the score as DICOM")
    parser.add_argument("--keep_identity", action="store_true", help="file these DICOM objects with the patient, for a PACS")
    parser.add_argument("--no_report", action="store_true", help="write no report.html")
    parser.add_argument("--continue_prediction", action="store_true", help="keep the cases that are finished")
    parser.add_argument("--overwrite", action="store_true", help="predict every case again (the default)")
    add_device_option(parser)
    add_extension_option(parser)
    add_folder_options(parser, "results")
    options = parser.parse_args(arguments)
    # Loading what works takes seconds: help and mistakes in the options are told before.
    from mmccd_auto.core.devices import choose_device
    from mmccd_auto.workflows.predict import predict

    failed = predict(
        folders_from(options),
        input_path=options.input,
        output=options.output,
        options=replace(
            models_from(options),
            preset=options.preset,
            sampling_steps=options.sampling_steps,
            strip_stride=options.strip_stride,
            strips_per_pass=options.strips_per_pass,
            fits=options.fits,
            precision=options.precision,
            batch_size=options.batch_size,
            score=options.score,
            false_positive_rate=options.fpr,
            threshold=options.threshold,
            least_lesion_mm3=options.min_lesion,
            brain_extraction=options.bet,
            export=ExportOptions(
                series=dict(options.series),
                key_file=options.pseudonym_key,
                link_file=options.link,
                dicom_seg=options.dicom_seg,
                keep_identity=options.keep_identity,
                bids=BidsOptions(all_runs=options.runs == ALL_RUNS),
            ),
        ),
        device=choose_device(options.device),
        brain_masks=options.brain_masks,
        save_cycle=options.save_cycle,
        save_control=options.save_control,
        continue_prediction=options.continue_prediction and not options.overwrite,
        report=not options.no_report,
    )
    for message in failed:
        print(f"error: {message}", file=sys.stderr)
    return 1 if failed else 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(_command))
