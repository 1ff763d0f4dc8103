"""What the values of a score map mean, in the words and codes of DICOM."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

CODING_SCHEME = "99MMCCD"
# Value and meaning of the code, and the quantity in at most 64 letters, where it is calibrated.
_QUANTITIES = {
    "combined": ("ANOM_COMBINED", "Anomaly score, brighter or darker than reconstructed", "Anomaly score"),
    "brighter": ("ANOM_BRIGHTER", "Anomaly score, brighter than reconstructed", "Brighter than expected"),
    "darker": ("ANOM_DARKER", "Anomaly score, darker than reconstructed", "Darker than expected"),
    "squared": ("SQUARED_ERROR", "Mean squared error of the normalised scan", "Squared error"),
}
_CALIBRATED_UNIT = "exceeded in 1 % of healthy tissue"


@dataclass(frozen=True)
class ScoreMeaning:
    """What a score map holds.

    Attributes
    ----------
    score : "combined", "brighter", "darker" or "squared"
    calibrated : whether 1.0 is the score that healthy tissue exceeds in 1 % of its voxels; else the values are plain
        errors
    threshold : a voxel above it is in the mask; None where there is no mask
    false_positive_rate : share of healthy tissue that the threshold lets through; None where it was not chosen by one
    is_mean : whether maps of several folds or models were averaged, each in its own units
    """

    score: str
    calibrated: bool
    threshold: float | None = None
    false_positive_rate: float | None = None
    is_mean: bool = False

    @property
    def quantity(self) -> Code:
        """The quantity as a code of the scheme 99MMCCD: the standard has none for it."""
        value, meaning, _ = _QUANTITIES[self.score]
        return Code(value, CODING_SCHEME, meaning)

    @property
    def unit(self) -> Code:
        """A ratio to the score that healthy tissue exceeds in 1 % of its voxels, or no unit."""
        return Code("{ratio}", "UCUM", "ratio") if self.calibrated else codes.UCUM.NoUnits

    @property
    def explanation(self) -> str:
        """Quantity and unit in at most 64 letters."""
        if not self.calibrated:
            return f"{_QUANTITIES[self.score][1]}, not calibrated"
        return f"{_QUANTITIES[self.score][2]}, calibrated; 1: top 1 % of healthy tissue"

    @property
    def comment(self) -> str:
        """Quantity, unit and threshold in full sentences."""
        quantity = _QUANTITIES[self.score][1]
        if self.calibrated and self.is_mean:
            unit = f"Calibrated: mean of several maps, in each of which 1.0 is the score that is {_CALIBRATED_UNIT}."
        elif self.calibrated:
            unit = f"Calibrated: 1.0 is the score that is {_CALIBRATED_UNIT}."
        else:
            unit = "Not calibrated: values of different models can't be compared, and none is known to be abnormal."
        return f"{quantity}. {unit} {self._threshold()} For research only."

    def parameters(self) -> dict[str, str]:
        """Return score, unit and threshold for the record of how an object was made."""
        found = {"score": self.score, "calibrated": "yes" if self.calibrated else "no"}
        if self.threshold is not None:
            found["threshold"] = f"{self.threshold:.6g}"
        return found

    def _threshold(self) -> str:
        if self.threshold is None:
            return "There is no threshold."
        rate = self.false_positive_rate
        chosen = "" if rate is None else f", chosen so that about {100 * rate:g} % of healthy tissue exceed it"
        return f"The mask is made at the threshold {self.threshold:.6g}{chosen}."
