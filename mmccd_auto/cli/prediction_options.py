"""The options of prediction, which mmccd_predict and mmccd_bids share."""

from __future__ import annotations

import argparse
from dataclasses import replace

from mmccd_auto.cli.argument_types import number, whole
from mmccd_auto.cli.common import (
    add_device_option,
    add_extension_option,
    add_folder_options,
)
from mmccd_auto.cli.options import (
    add_brain_extraction_option,
    add_fits_option,
    add_folds_option,
    add_model_options,
    add_runs_option,
    add_series_option,
    models_from,
)
from mmccd_auto.inference.options import (
    DEFAULT_RATE,
    DEFAULT_SCORE,
    LARGEST_TRIM_MM,
    PRECISIONS,
    PRESETS,
    SCORES,
    ExportOptions,
    PredictionOptions,
)
from mmccd_auto.plans.plan import LARGEST_EDGE, LARGEST_STRIPS_PER_PASS, MOST_TIMESTEPS


def add_prediction_options(parser: argparse.ArgumentParser) -> None:
    """Add what says by which model scans are predicted, how, and what is written."""
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
    _add_map_options(parser)
    _add_score_options(parser)
    parser.add_argument("--save_cycle", action="store_true", help="also write brighter, darker, signed error and mean cycle")
    parser.add_argument(
        "--save_control", action="store_true", help="also write the control: the score without a network, for mmccd_evaluate"
    )
    parser.add_argument(
        "--input_only", action="store_true", help="use the input modality alone, also where the model can use others"
    )
    add_series_option(parser)
    add_runs_option(parser)
    add_brain_extraction_option(parser)
    parser.add_argument("--no_report", action="store_true", help="write no report.html")
    add_device_option(parser)
    add_extension_option(parser)
    add_folder_options(parser, "results")


def _add_map_options(parser: argparse.ArgumentParser) -> None:
    """Add how the networks make maps."""
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
        "--trim_edge",
        type=number(0, LARGEST_TRIM_MM),
        default=0.0,
        metavar="MM",
        help="make brains so much smaller all around, where skull or dura was left or a coil brightens the rim; lesions "
        "there are lost",
    )
    parser.add_argument(
        "--brain_masks", default=None, metavar="FOLDER", help="CASE.nii.gz brain masks; of BIDS also desc-brain masks"
    )


def _add_score_options(parser: argparse.ArgumentParser) -> None:
    """Add which score is written, and how the mask is made of it."""
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


def prediction_from(options: argparse.Namespace, export: ExportOptions, keep_finished: bool) -> PredictionOptions:
    """Give what was asked of a prediction.

    Parameters
    ----------
    options : as parsed
    export : what is wished of the input
    keep_finished : cases that are finished stay
    """
    return replace(
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
        export=export,
        brain_masks=options.brain_masks,
        save_cycle=options.save_cycle,
        save_control=options.save_control,
        continue_prediction=keep_finished,
        input_only=options.input_only,
        report=not options.no_report,
        trim_edge_mm=options.trim_edge,
    )
