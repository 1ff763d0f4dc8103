"""Which trained models are meant; loads nothing else, so that help and mistakes are reported at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelQuery:
    """Which model or models are meant; see the command's help for each."""

    models: tuple[str, ...] = ()
    dataset: str | None = None
    configurations: tuple[str, ...] = ()
    trainer: str | None = None
    plans_name: str | None = None
