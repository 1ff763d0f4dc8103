"""Which cases a prediction is of: those of the input, and where the brain mask of each lies."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from mmccd_auto.core.wording import counted
from mmccd_auto.imaging.file_names import volume_ending
from mmccd_auto.inference.options import OutputOptions
from mmccd_auto.inference.prediction.prediction import PredictsScans
from mmccd_auto.sources.bids.masks import BRAIN, choose_masks, holds_bids_masks
from mmccd_auto.sources.cases import SourceOptions, list_source_cases
from mmccd_auto.sources.inputs import InputListing, discover_cases, input_case
from mmccd_auto.sources.pseudonyms import read_key
from mmccd_auto.sources.series_table import SeriesRow, table_text

logger = logging.getLogger(__name__)


def discover(
    predictor: PredictsScans, source: Path, output: Path, wishes: OutputOptions, workspace: Path
) -> tuple[InputListing, tuple[SeriesRow, ...]]:
    """Find the cases of volume files, and those of DICOM files beside them, with a row for each DICOM series."""
    options = wishes.export
    modality, modalities = predictor.input_modality, predictor.modalities
    if not source.exists() or (source.is_file() and volume_ending(source.name)):
        return discover_cases(source, modality, modalities, exclude=output), ()
    key = None if options.key_file is None else read_key(options.key_file)
    looked_for = SourceOptions(
        *(options.series, key, output, modalities),
        alone=True,
        bids=options.bids,
        beside=() if wishes.input_only else predictor.further,
    )
    listing = list_source_cases(source, [modality], workspace, looked_for)
    for note in listing.notes:
        logger.warning("%s", note)
    beside = {scan for one in listing.cases for scan in one.beside.values() if isinstance(scan, Path)}
    unneeded = sum(item.unneeded and item.path not in beside for item in listing.left_out)
    if unneeded:
        files = counted(unneeded, "file")
        logger.info("%s of what isn't needed beside the %s left alone.", files, modality)
    if listing.series:
        logger.info("%s", table_text(listing.series))
    ignored = tuple((item.path, item.reason) for item in listing.left_out if not item.unneeded)
    cases = tuple(input_case(one, modality, listing.ages.get(one.case)) for one in listing.cases)
    return InputListing(cases, ignored, listing.studies, listing.names), listing.series


def with_brain_masks(listing: InputListing, folder: Path | None) -> tuple[InputListing, dict[str, Path] | None]:
    """Give the cases, with why one has no mask where BIDS tells it; and the mask of each, whether or not it is there.

    The masks are None where none are given.
    """
    if folder is None:
        return listing, None
    masks = {found.case: folder / f"{found.case}.nii.gz" for found in listing.cases}
    scans = {found.case: [found.file] for found in listing.cases if found.file is not None}
    if not holds_bids_masks(folder) or any(path.is_file() for path in masks.values()):
        return listing, masks
    chosen = choose_masks(folder, BRAIN, scans)
    cases = [replace(found, error=found.error or chosen.errors.get(found.case)) for found in listing.cases]
    return replace(listing, cases=tuple(cases)), masks | chosen.by_case
