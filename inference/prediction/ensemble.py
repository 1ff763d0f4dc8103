"""Several models of one input modality as one: modality cycles to different modalities, or different trainers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.streams import Settled, each, split
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.options import LoadOptions
from mmccd_auto.inference.prediction.prediction import Scan
from mmccd_auto.inference.prediction.predictor import ALL_FOLDS, CPU, Predictor
from mmccd_auto.inference.prediction.scan_predictor import ScanMaps, ScanPredictor
from mmccd_auto.inference.scores.calibration import case_score
from mmccd_auto.inference.scores.scoring import Scoring
from mmccd_auto.reporting.page.assemble import Section
from mmccd_auto.trained.identity import ModelIdentity

JOINED = " + "


class Ensemble(ScanPredictor):
    """Models whose maps are averaged in calibrated units, on the scan's own grid.

    The models may have been planned differently (slice axis, spacing, patch): only the input modality has to be the same.
    So each makes the second fit of its own slices, without what its own first look marks.
    The brain is looked for once.

    Parameters
    ----------
    members : at least two, of one input modality, all calibrated

    Raises
    ------
    MMCCDError
        If the members don't fit together; the message names them.
    """

    def __init__(self, members: Sequence[Predictor]) -> None:
        self.members = tuple(members)
        _check(self.members)
        first = self.members[0]
        rest = (first.device, first.brain_extraction, first.trim_edge_mm)
        super().__init__(joint_identity(self.members), joint_scoring(self.members), *rest)

    @classmethod
    def from_model_folders(
        cls, paths: Sequence[str | Path], options: LoadOptions = ALL_FOLDS, device: torch.device = CPU
    ) -> Ensemble:
        """Load models; ``options`` and ``device`` as for :meth:`Predictor.from_model_folder`, the same for each.

        Raises
        ------
        MMCCDError
            If one can't be loaded, or they don't fit together.
        """
        return cls([Predictor.from_model_folder(path, options, device) for path in paths])

    @property
    def modalities(self) -> tuple[str, ...]:
        """See :class:`ScanPredictor`."""
        return self.members[0].modalities

    @property
    def further(self) -> tuple[str, ...]:
        """See :class:`ScanPredictor`; what any member can use."""
        return tuple(dict.fromkeys(name for one in self.members for name in one.further))

    def request(self) -> dict[str, Any]:
        """See :class:`ScanPredictor`; ``members`` holds what each model alone would say."""
        settings = {one.identity.model: one.settings.to_json() for one in self.members}
        alone = [one.request() for one in self.members]
        identity = self.identity.to_json()
        return {**identity, "settings": settings, **self.scoring.to_json(), "members": alone}

    def describe(self) -> str:
        """See :class:`ScanPredictor`."""
        return "mean of " + "; ".join(f"{one.identity.model}, {one.describe()}" for one in self.members)

    def facts(self) -> tuple[Section, ...]:
        """See :class:`ScanPredictor`; every member's own."""
        return tuple(
            Section(f"{one.identity.model}: {section.title}", section.rows, section.note)
            for one in self.members
            for section in one.facts()
        )

    def scan_maps(
        self, scans: Iterable[Scan | Settled], *, only_score: bool = False, control: bool = False
    ) -> Iterator[ScanMaps | Settled]:
        """See :class:`ScanPredictor`; the members prepare the scans each for itself."""
        for_members = split(scans, len(self.members))
        of_members = zip(self.members, for_members, strict=True)
        asked = {"only_score": only_score, "control": control}
        yield from each(self._joined, *(one.scan_maps(part, **asked) for one, part in of_members))

    def _joined(self, *maps: ScanMaps) -> ScanMaps:
        """Return the mean of the members' maps."""
        scores = {name: _mean([one.scores[name] for one in maps]) for name in maps[0].scores}
        brain = maps[0].brain
        percentiles = [one.healthy_percentile for one in maps if one.healthy_percentile is not None]
        normalisation = {
            f"{model.identity.model}: {name}": value
            for model, one in zip(self.members, maps, strict=True)
            for name, value in one.normalisation.items()
        }
        return ScanMaps(
            scores=scores,
            signed=_mean_of_all([one.signed for one in maps]),
            cycle=_mean_of_all([one.cycle for one in maps]),
            brain=brain,
            case_score=case_score(scores[self.scoring.score][brain]),
            # Of each model by its own healthy subjects: the mean of two maps has lower extremes than either.
            healthy_percentile=float(np.mean(percentiles)) if percentiles else None,
            network_evaluations=sum(one.network_evaluations for one in maps),
            normalisation=normalisation,
            fits=tuple(fit for one in maps for fit in one.fits),
            control=_mean_of_all([one.control for one in maps]),
            edges=tuple(edge for one in maps for edge in one.edges),
            further=tuple(record for one in maps for record in one.further),
            scoring=self._scoring_of(maps),
        )

    def _scoring_of(self, maps: Sequence[ScanMaps]) -> Scoring | None:
        """Return the members' own of this scan together; None where it is that of the input modality alone."""
        if all(one.scoring is None for one in maps):
            return None
        own = [one.scoring or member.scoring for member, one in zip(self.members, maps, strict=True)]
        return mean_scoring([one.identity.model for one in self.members], own)

    def scan_warnings(self, scan: Volume, brain: np.ndarray) -> list[str]:
        """See :class:`ScanPredictor`; what several models say is said once."""
        return list(dict.fromkeys(text for one in self.members for text in one.scan_warnings(scan, brain)))


def joint_identity(members: Sequence[Predictor]) -> ModelIdentity:
    """Return the names joined by " + ", folds and weights as MODEL/fold_K; the slice axis is the first model's."""
    identities = [one.identity for one in members]

    def joined(name: str) -> str:
        return JOINED.join(dict.fromkeys(getattr(one, name) for one in identities))

    weights = {f"{one.model}/fold_{fold}": value for one in identities for fold, value in one.weights_sha256.items()}
    return ModelIdentity(
        model=joined("model"),
        dataset=joined("dataset"),
        trainer=joined("trainer"),
        plans=joined("plans"),
        configuration=joined("configuration"),
        input_modality=identities[0].input_modality,
        slice_axis=identities[0].slice_axis,
        folds=tuple(weights),
        weights_sha256=weights,
    )


def joint_scoring(members: Sequence[Predictor]) -> Scoring:
    """Return the mean of the members' thresholds and least lesion volumes, as those of folds are averaged.

    Raises
    ------
    MMCCDError
        If one isn't calibrated: its map is in another unit.
    """
    missing = [one.identity.model for one in members if not one.scoring.calibrated]
    if missing:
        raise MMCCDError(f"{', '.join(missing)} has no calibration, so its map has another unit: run mmccd_calibrate.")
    return mean_scoring([one.identity.model for one in members], [one.scoring for one in members])


def mean_scoring(models: Sequence[str], scorings: Sequence[Scoring]) -> Scoring:
    """Return the mean of several models' thresholds and least lesion volumes; all of them are calibrated."""
    first = scorings[0]
    sources = dict.fromkeys(one.source for one in scorings)
    return Scoring(
        score=first.score,
        calibrations={
            f"{model}/fold_{fold}": calibration
            for model, one in zip(models, scorings, strict=True)
            for fold, calibration in one.calibrations.items()
        },
        false_positive_rate=first.false_positive_rate,
        threshold=float(np.mean([one.threshold for one in scorings])),
        least_lesion_mm3=float(np.mean([one.least_lesion_mm3 for one in scorings])),
        source=JOINED.join(sources),
        least_source=JOINED.join(dict.fromkeys(one.least_source for one in scorings)),
    )


def _check(members: Sequence[Predictor]) -> None:
    names = [one.identity.model for one in members]
    if len(members) < 2:
        raise MMCCDError(f"an ensemble needs two models: give another one beside {', '.join(names) or 'none'}.")
    folders = [(one.identity.dataset, one.identity.model) for one in members]
    twice = sorted({model for (dataset, model) in folders if folders.count((dataset, model)) > 1})
    if twice:
        raise MMCCDError(f"{', '.join(twice)} is named twice: name each model once.")
    inputs = {one.identity.model: one.input_modality for one in members}
    if len(set(inputs.values())) > 1:
        told = ", ".join(f"{model} of {modality}" for model, modality in inputs.items())
        raise MMCCDError(f"these models examine different scans and have no common map: {told}; predict them apart.")
    if len({one.modalities for one in members}) > 1:
        told = "; ".join(f"{one.identity.model}: {', '.join(one.modalities)}" for one in members)
        raise MMCCDError(f"these models number the modalities differently ({told}): predict them apart.")


def _mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(arrays, axis=0, dtype=np.float32))


def _mean_of_all(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Compute the mean; None where one of them isn't there."""
    known = [one for one in arrays if one is not None]
    return _mean(known) if len(known) == len(arrays) else None
