"""What a user may ask of a BIDS dataset; loads nothing else, so that help and mistakes are reported at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BidsOptions:
    """What a user may ask where the input is a BIDS dataset.

    Attributes
    ----------
    participants, sessions : labels, with or without ``sub-`` and ``ses-``; none takes all
    all_runs : every run is a case of its own; else the last one stands for its visit
    """

    participants: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    all_runs: bool = False


ALL_PEOPLE = BidsOptions()
