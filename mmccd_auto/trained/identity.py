"""Which model made a map."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ModelIdentity:
    """Which model made a map.

    Attributes
    ----------
    model : name of its folder
    dataset, trainer, plans, configuration : what it was trained on, and by
    input_modality : the scan that it examines
    slice_axis : along which slices are cut
    folds : whose maps were averaged; MODEL/fold_K for an ensemble
    weights_sha256 : of each fold's checkpoint
    """

    model: str
    dataset: str
    trainer: str
    plans: str
    configuration: str
    input_modality: str
    slice_axis: str
    folds: tuple[str, ...]
    weights_sha256: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return what CASE.json says of it."""
        return asdict(self) | {"folds": list(self.folds)}
