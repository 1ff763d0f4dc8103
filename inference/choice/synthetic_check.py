"""How well a trained cycle finds synthetic anomalies in healthy held-out slices: what can be measured without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmccd_auto.core.progress import track
from mmccd_auto.evaluation.metrics import count_scores, ranking_figures
from mmccd_auto.inference.maps.engine import MapMaker, SliceMaps, anomaly_maps
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.calibration import Calibration
from mmccd_auto.inference.scores.control import scan_of
from mmccd_auto.inference.scores.signed_scores import adjacent_runs
from mmccd_auto.preprocessing.slices import CaseRecord, read_slices
from mmccd_auto.synthetic_anomalies.block import HealthyBlock
from mmccd_auto.synthetic_anomalies.make import SyntheticAnomaly, mixed_anomalies

LEAST_SLICES = 3
SEED = 20


@dataclass(frozen=True)
class Altered:
    """A run of adjacent healthy slices with a synthetic anomaly in it.

    Attributes
    ----------
    run : the healthy slices and their maps
    anomaly : what was put in
    touched : positions of the slices that it changes
    """

    run: CaseMaps
    anomaly: SyntheticAnomaly
    touched: tuple[int, ...]


@dataclass(frozen=True)
class AlteredMaps:
    """What the cycle makes of altered slices.

    Attributes
    ----------
    kind : of the anomaly
    anomaly : bool [S, H, W]
    case : its maps
    """

    kind: str
    anomaly: np.ndarray
    case: CaseMaps


def alter_cases(
    healthy: Sequence[CaseMaps],
    modality: str,
    preprocessed: Path,
    records: Mapping[str, CaseRecord],
    per_kind: int,
    seed: int = SEED,
    refitted: bool = False,
) -> list[Altered]:
    """Put synthetic anomalies into healthy slices; the same ones whatever made the slices' maps.

    Parameters
    ----------
    healthy : slices of cases with their maps
    modality : input modality
    preprocessed : folder of the slices
    records : of the cases there
    per_kind : anomalies of each kind
    seed : everything is drawn from it
    refitted : the maps are of slices that a second fit gave, which are altered instead of the preprocessed ones
    """
    runs = [run for case in healthy for run in _runs(case)]
    blocks = [_block(run, modality, preprocessed, records[run.case], refitted) for run in runs]
    found = []
    for number, anomaly in mixed_anomalies(blocks, seed, per_kind):
        touched = np.flatnonzero((anomaly.image != blocks[number].image).any(axis=(1, 2)))
        found.append(Altered(runs[number], anomaly, tuple(touched.tolist())))
    return found


def maps_of_altered(
    altered: Sequence[Altered], maker: MapMaker, description: str = "synthetic anomalies"
) -> list[AlteredMaps]:
    """Send altered slices through the cycle. Slices that an anomaly doesn't touch keep the maps that they have.

    Parameters
    ----------
    altered : of :func:`alter_cases`, with maps that ``maker`` made
    maker : cycle and settings, as for prediction
    description : shown beside the progress bar; an empty one shows no bar
    """
    found = []
    for one in track(
        altered, total=len(altered), description=description, unit="anomaly", leave=False, disable=not description
    ):
        places = list(one.touched)
        maps = anomaly_maps(
            maker,
            one.anomaly.image[places],
            one.run.brain[places],
            one.run.case,
            slice_indices=[one.run.indices[place] for place in places],
            description="",
        )
        patched = replace(one.run, maps=_patched(one.run.maps, maps, places))
        found.append(AlteredMaps(one.anomaly.kind, one.anomaly.anomaly, patched))
    return found


def auprc_by_kind(cases: Sequence[AlteredMaps], calibration: Calibration, score: str = "combined") -> dict[str, float]:
    """Compute the area under the precision-recall curve of the brain's pixels, mean over the anomalies of each kind.

    Parameters
    ----------
    cases : of :func:`maps_of_altered`
    calibration : of the same cycle and settings
    score : one of SCORES
    """
    return auprc_of_scores(cases, [calibration.scores(one.case)[score] for one in cases])


def auprc_of_scores(cases: Sequence[AlteredMaps], scores: Sequence[np.ndarray]) -> dict[str, float]:
    """Work as :func:`auprc_by_kind`, of scores that were made before: [S, H, W] for each of ``cases``."""
    return mean_by_kind(cases, auprc_of_each(cases, scores))


def auprc_of_each(cases: Sequence[AlteredMaps], scores: Sequence[np.ndarray]) -> list[float]:
    """Compute the area under the precision-recall curve of the brain's pixels for each anomaly.

    The order is that of ``cases``.
    """
    found = []
    for one, values in zip(cases, scores, strict=True):
        brain = one.case.brain
        figure = ranking_figures(count_scores(values[brain], one.anomaly[brain]))["auprc"]
        if figure is None:
            raise ValueError("an anomaly that has no pixel in the brain has no precision and recall")
        found.append(figure)
    return found


def mean_by_kind(cases: Sequence[AlteredMaps], figures: Sequence[float]) -> dict[str, float]:
    """Return the mean of a figure of each anomaly over the anomalies of each kind."""
    found: dict[str, list[float]] = {}
    for one, figure in zip(cases, figures, strict=True):
        found.setdefault(one.kind, []).append(figure)
    return {kind: float(np.mean(values)) for kind, values in found.items()}


def _runs(case: CaseMaps) -> list[CaseMaps]:
    """Return the runs of adjacent slices of a case; single slices where all of them are short."""
    runs = [run for run in adjacent_runs(case.indices) if run.stop - run.start >= LEAST_SLICES]
    runs = runs or [slice(place, place + 1) for place in range(len(case.indices))]
    return [case.of_slices(run) for run in runs if case.brain[run].any()]


def _patched(maps: SliceMaps, others: SliceMaps, places: Sequence[int]) -> SliceMaps:
    changed = {}
    for name in ("squared", "signed", "cycle", "coverage"):
        changed[name] = getattr(maps, name).copy()
        changed[name][list(places)] = getattr(others, name)
    return SliceMaps(**changed, network_evaluations=others.network_evaluations)


def _block(run: CaseMaps, modality: str, preprocessed: Path, record: CaseRecord, refitted: bool) -> HealthyBlock:
    images, brain, _ = read_slices(preprocessed, record, run.indices)
    image = images[record.modalities.index(modality)]
    if refitted:
        image = np.where(run.brain & (run.maps.coverage > 0), scan_of(run), image)
    parameters = record.normalisation[modality]
    return HealthyBlock(
        case=run.subject,
        modality=modality,
        image=image,
        brain=brain,
        spacing=run.spacing,
        shift=parameters["shift"],
        scale=parameters["scale"],
    )
