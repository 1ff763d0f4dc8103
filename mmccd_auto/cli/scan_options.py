"""The options of commands that read scans as hospitals have them."""

from __future__ import annotations

import argparse

from mmccd_auto.dicom.series.choose_series import parse_series_option

BRAIN_EXTRACTIONS = ("auto", "hd-bet", "synthstrip", "deepbet", "template")
"""The names of :func:`mmccd_auto.preprocessing.brain_extraction.backend_names`, which takes long to load."""


def add_series_option(parser: argparse.ArgumentParser) -> None:
    """The option --series: what stands for a modality in a DICOM export."""
    parser.add_argument(
        "--series",
        nargs="+",
        default=[],
        type=parse_series_option,
        metavar="MODALITY=PATTERN",
        help="the DICOM series to use, by its number or a part of its description, as FLAIR=dark",
    )


def add_brain_extraction_option(parser: argparse.ArgumentParser) -> None:
    """The option --bet."""
    parser.add_argument(
        "--bet",
        default="auto",
        choices=BRAIN_EXTRACTIONS,
        help="brain extraction of scans with skull; auto takes the best that is installed",
    )


def add_link_option(parser: argparse.ArgumentParser) -> None:
    """The option --keep_link, also spelled as it was before."""
    parser.add_argument(
        "--keep_link",
        "--keep-link",
        dest="link",
        default=None,
        metavar="FILE",
        help="write which person or file is behind which case; only you may read it, and it can't lie in the output",
    )
