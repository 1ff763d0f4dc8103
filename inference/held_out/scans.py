"""The slices of held-out scans as prediction would see them: after a second fit where it makes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mmccd_auto.core.progress import Progress
from mmccd_auto.imaging.intensity_scale import BACKGROUND
from mmccd_auto.inference.maps.engine import MapMaker, SliceMaps, SliceWork, anomaly_maps
from mmccd_auto.inference.maps.fold_model import FoldModel
from mmccd_auto.inference.maps.settings import InferenceSettings
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.scores.further import ALONE, Subset
from mmccd_auto.inference.scores.score_units import ScoreUnits, fit_units
from mmccd_auto.inference.scores.second_fit import first_look, look_maps, look_places, look_scores, refit_scan
from mmccd_auto.plans.plan import Plan, ScorePlan
from mmccd_auto.preprocessing.second_fit import FirstFit
from mmccd_auto.preprocessing.slices import CaseRecord, read_slices
from mmccd_auto.preprocessing.stored_samples import read_samples


@dataclass(frozen=True)
class HeldOutScans:
    """Preprocessed scans, and the fold that looks at them.

    Attributes
    ----------
    loaded, plan, modality : of the model
    preprocessed : folder of the slices
    records : of the cases
    settings : of the inference
    device : that the fold is on
    """

    loaded: FoldModel
    plan: Plan
    modality: str
    preprocessed: Path
    records: Mapping[str, CaseRecord]
    settings: InferenceSettings
    device: torch.device
    _looks: dict[str, tuple[SliceWork, CaseMaps]] = field(default_factory=dict)

    def look(self, chosen: Mapping[str, Sequence[int]], score: ScorePlan, progress: Progress) -> ScoreUnits:
        """Look at whole scans for the first time, and learn from their healthy slices what healthy tissue scores.

        Parameters
        ----------
        chosen : the scans, and healthy slices of each
        score : how errors become scores
        progress : is informed of every scan
        """
        healthy = []
        for case in chosen:
            look = self._look(case)
            maps = look_maps(look, self._maps(look), self._spacing(case), self.records[case].subject)
            self._looks[case] = look, maps
            fit = {item.index for item in self.records[case].slices if item.healthy}
            places = [place for place, index in enumerate(look.indices) if index in fit]
            if places:
                healthy.append(maps.of_slices(places))
            progress.update(len(look.indices))
        # Where a scan has so few healthy slices that the first look passes them by, the chosen ones decide.
        return fit_units(
            healthy or [self._case_maps(self._work(case, part).shown_with(())) for case, part in chosen.items()], score
        )

    def slices_to_look_at(self, cases: Sequence[str]) -> int:
        """Count how many slices :meth:`look` sends through the network."""
        return sum(
            len(look_places([item.index for item in self.records[case].slices], self._spacing(case)[0])) for case in cases
        )

    def maps(
        self, case: str, indices: Sequence[int], units: ScoreUnits | None, subsets: Sequence[Subset] = ()
    ) -> dict[Subset, CaseMaps]:
        """Return the maps of some slices of a scan: by the input modality alone, and with each of the subsets it has.

        Parameters
        ----------
        case, indices : which
        units : of :meth:`look`, for a second fit of the whole scan; None makes none
        subsets : of the cycle's further modalities
        """
        further, there = self.loaded.cycle.further, self.records[case].modalities
        fitted = self._fitted(case, indices, units)
        return {
            subset: self._case_maps(fitted.shown_with([further.index(name) for name in subset]))
            for subset in (ALONE, *subsets)
            if set(subset) <= set(there)
        }

    def _fitted(self, case: str, indices: Sequence[int], units: ScoreUnits | None) -> SliceWork:
        if units is None:
            return self._work(case, indices)
        record, whole = self.records[case], self._work(case)
        look, maps = self._looks.pop(case)
        scores = look_scores(maps, units)
        scheme = self.plan.normalisation[self.modality]
        parameters = record.normalisation[self.modality]
        samples = read_samples(Path(self.preprocessed) / case, self.modality)
        first = FirstFit(parameters, scheme, record.geometry, samples)
        work = refit_scan(whole, look, scores, first, "").work
        return work.of_slices([work.indices.index(index) for index in indices])

    def _look(self, case: str) -> SliceWork:
        return first_look(self._work(case), self._spacing(case)[0])

    def _spacing(self, case: str) -> tuple[float, float, float]:
        return self.records[case].geometry.slice_spacing

    def _work(self, case: str, indices: Sequence[int] | None = None) -> SliceWork:
        record = self.records[case]
        chosen = [item.index for item in record.slices] if indices is None else list(indices)
        image, brain, _ = read_slices(self.preprocessed, record, chosen)
        further = _further(image, record.modalities, self.loaded.cycle.further)
        return SliceWork(case, image[record.modalities.index(self.modality)], brain, tuple(chosen), further)

    def _case_maps(self, work: SliceWork) -> CaseMaps:
        record = self.records[work.case]
        return CaseMaps(work.case, record.subject, work.indices, self._spacing(work.case), self._maps(work), work.brain)

    def _maps(self, work: SliceWork) -> SliceMaps:
        maker = MapMaker(self.loaded.cycle, self.settings, self.device, self.plan.patch_size)
        return anomaly_maps(
            *(maker, work.image, work.brain, work.case),
            slice_indices=work.indices,
            description="",
            further=work.further,
        )


def _further(image: np.ndarray, modalities: Sequence[str], wanted: Sequence[str]) -> np.ndarray | None:
    """Select the wanted modalities of slices [C, S, H, W] as [S, K, H, W]; None where none is wanted.

    One that the case doesn't have is background.
    """
    if not wanted:
        return None
    empty = np.full(image.shape[1:], BACKGROUND, dtype=np.float32)
    return np.stack([image[modalities.index(name)] if name in modalities else empty for name in wanted], axis=1)
