"""The options that several commands share: which trained models are meant, and how scans are read."""

from __future__ import annotations

import argparse

from mmccd_auto.cli.argument_types import fold, path_name
from mmccd_auto.dicom.series.choose_series import parse_series_option
from mmccd_auto.inference.options import MOST_FITS, PredictionOptions

ALL_RUNS = "all"
BRAIN_EXTRACTIONS = ("auto", "hd-bet", "synthstrip", "deepbet", "template")
"""The names of :func:`mmccd_auto.preprocessing.brain_extraction.backend_names`, which takes long to load."""


def add_model_options(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """Add the options -c, -tr and -p, which say which trained models are meant.

    Parameters
    ----------
    several : -c takes several configurations
    """
    if several:
        parser.add_argument(
            "-c",
            dest="configurations",
            nargs="+",
            type=path_name("configuration"),
            default=[],
            metavar="CYCLE",
            help="modality cycle; several are averaged",
        )
    else:
        parser.add_argument(
            "-c",
            dest="configurations",
            nargs=1,
            type=path_name("configuration"),
            default=[],
            metavar="CYCLE",
            help="modality cycle",
        )
    parser.add_argument(
        "-tr", dest="trainer", type=path_name("trainer"), default=None, metavar="CLASS", help="trainer class"
    )
    parser.add_argument(
        "-p", dest="plans_name", type=path_name("plans"), default=None, metavar="NAME", help="name of the plans"
    )


def add_folds_option(parser: argparse.ArgumentParser) -> None:
    """Add the option -f of commands that take several folds."""
    parser.add_argument(
        "-f", dest="folds", nargs="+", type=fold, default=None, metavar="FOLD", help="default: every trained fold"
    )


def add_fits_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option --fits: how often the intensities of a scan are fitted.

    Parameters
    ----------
    default : in words
    """
    parser.add_argument(
        "--fits",
        type=int,
        choices=range(1, MOST_FITS + 1),
        default=None,
        help=f"of bias field and intensity scale; 2: the second without what a first look marks (default: {default})",
    )


def models_from(options: argparse.Namespace) -> PredictionOptions:
    """Return the models, folds and extensions that the options name."""
    return PredictionOptions(
        models=tuple(getattr(options, "models", ())),
        dataset=options.dataset,
        configurations=tuple(options.configurations),
        trainer=options.trainer,
        plans_name=options.plans_name,
        folds=tuple(options.folds) if options.folds else None,
        extensions=tuple(getattr(options, "extensions", ())),
    )


def add_series_option(parser: argparse._ActionsContainer) -> None:
    """Add the option --series: what stands for a modality in a DICOM export."""
    parser.add_argument(
        "--series",
        nargs="+",
        default=[],
        type=parse_series_option,
        metavar="MODALITY=PATTERN",
        help="the DICOM series to use, by its number or a part of its description, as FLAIR=dark; in BIDS a part of the "
        "file's name, as T1=acq-highres",
    )


def add_runs_option(parser: argparse._ActionsContainer) -> None:
    """Add the option --runs."""
    parser.add_argument(
        "--runs", default="last", choices=("last", ALL_RUNS), help="BIDS: which runs of a scan; all: a case for each"
    )


def add_brain_extraction_option(parser: argparse._ActionsContainer) -> None:
    """Add the option --bet."""
    parser.add_argument(
        "--bet",
        default="auto",
        choices=BRAIN_EXTRACTIONS,
        help="brain extraction of scans with skull; auto takes the best that is installed",
    )


def add_link_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --keep_link, also spelled as it was before."""
    parser.add_argument(
        "--keep_link",
        "--keep-link",
        dest="link",
        default=None,
        metavar="FILE",
        help="write which person or file is behind which case; only you may read it, and it can't lie in the output",
    )
