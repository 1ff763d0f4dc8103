"""What a mask and its candidates hold, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmccd_auto.core.wording import counted
from mmccd_auto.inference.scores.masks import component_volumes

LESIONS, CANDIDATES, NOTHING, NO_MASK = "lesions", "candidates only", "nothing", "no mask"


@dataclass(frozen=True)
class Findings:
    """What lies above the threshold in one scan.

    Attributes
    ----------
    lesions, candidates : connected parts of at least the least lesion volume, and smaller ones; None where there is no mask
    lesions_ml, candidates_ml : millilitres; None likewise
    largest_candidate_mm3, candidates_max_score : of the candidates; None where there is none
    least_lesion_mm3 : that parts them
    """

    lesions: int | None
    candidates: int | None
    lesions_ml: float | None
    candidates_ml: float | None
    largest_candidate_mm3: float | None
    candidates_max_score: float | None
    least_lesion_mm3: float

    @property
    def kind(self) -> str:
        """LESIONS, CANDIDATES (which are all there is), NOTHING or NO_MASK."""
        if self.lesions is None:
            return NO_MASK
        return LESIONS if self.lesions else CANDIDATES if self.candidates else NOTHING

    def describe(self) -> str:
        """Describe what was found, as one clause."""
        if self.kind == NO_MASK:
            return "no mask, since there is no threshold"
        if self.kind == NOTHING:
            return "nothing above the threshold"
        lesions = f"{counted(self.lesions, 'lesion')} ({self.lesions_ml:.2f} ml)" if self.lesions else "no lesion"
        if not self.candidates:
            return lesions
        return (
            f"{lesions}{' and' if self.lesions else ', but'} {counted(self.candidates, 'candidate')} below the least lesion "
            f"volume of {self.least_lesion_mm3:.3g} mm3 ({self.candidates_ml:.2f} ml; the largest "
            f"{self.largest_candidate_mm3:.3g} mm3; scores up to {self.candidates_max_score:.3g})"
        )


def find_findings(
    anomaly: np.ndarray,
    mask: np.ndarray | None,
    candidates: np.ndarray | None,
    least_lesion_mm3: float,
    voxel_mm3: float,
) -> Findings:
    """Count and measure lesions and candidates.

    Parameters
    ----------
    anomaly : float [z, y, x], the score
    mask, candidates : uint8 or bool [z, y, x]; None where there is no threshold
    least_lesion_mm3 : that parts them
    voxel_mm3 : volume of a voxel
    """
    if mask is None or candidates is None:
        return Findings(None, None, None, None, None, None, least_lesion_mm3)
    lesions, small = component_volumes(mask, voxel_mm3), component_volumes(candidates, voxel_mm3)
    return Findings(
        lesions=len(lesions),
        candidates=len(small),
        lesions_ml=float(lesions.sum() / 1000),
        candidates_ml=float(small.sum() / 1000),
        largest_candidate_mm3=float(small[0]) if len(small) else None,
        candidates_max_score=float(anomaly[np.asarray(candidates, dtype=bool)].max()) if len(small) else None,
        least_lesion_mm3=least_lesion_mm3,
    )
