"""Which of the ready models fits an input: that of the first modality, in the order of their figures, that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.contrasts import contrast
from mmccd_auto.imaging.file_names import volume_ending
from mmccd_auto.inference.options import ExportOptions
from mmccd_auto.sources.cases import SourceOptions, list_source_cases
from mmccd_auto.sources.named_files import read_names
from mmccd_auto.trained.ready_models import find_ready, ready_name


def ready_modality_of(source: str | Path, output: str | Path, ready: Sequence[str], export: ExportOptions) -> str:
    """Find the modality by which a ready model can examine an input; only names and headers are looked at.

    Parameters
    ----------
    source : a scan, a folder of scans, or DICOM (folder, zip archive, DICOMDIR)
    output : folder of the maps, which is not searched
    ready : modalities of the ready models, the best first
    export : what is wished of a hospital's export or a BIDS dataset

    Returns
    -------
    the first of ``ready`` that any case has; the best one where nothing tells a modality
    """
    source = Path(source)
    if len(ready) == 1 or not source.exists():
        return ready[0]
    there = _modalities_of(source, output, ready, export)
    return next((name for name in ready if contrast(name) in there), ready[0])


def _modalities_of(source: Path, output: str | Path, ready: Sequence[str], export: ExportOptions) -> set[str]:
    # In the order of the channel numbers (CASE_0000) by which the models would read the input.
    channels = find_ready(ready_name(ready[0])).models()[0].plan.modalities
    if source.is_file() and volume_ending(source.name):
        told = read_names(source.parent, [source], channels)[0].modality
        return set() if told is None else {contrast(told)}
    with workspace("modality") as space:
        try:
            search = SourceOptions(export.series, output=output, channels=channels, bids=export.bids)
            listing = list_source_cases(source, ready, space, search)
        except MMCCDError:
            # The prediction tells what is wrong with the input, in the words of its model.
            return set()
        return {contrast(name) for case in listing.cases for name in case.scans}
