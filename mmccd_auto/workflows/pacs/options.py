"""How a clinic's archive is watched; loads nothing else, so that help and mistakes are told at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mmccd_auto.pacs.limits import Limits
from mmccd_auto.pacs.rules import StudyRules


@dataclass(frozen=True)
class PacsOptions:
    """How an archive is watched.

    Attributes
    ----------
    state : folder of the records, of the work that goes on, and of what has arrived
    rules : which studies
    limits : of what arrives
    quiet_seconds : a study whose number of images has not changed for so long is complete
    interval_seconds : between two looks
    once : one look, and an end
    retry_failed : work again on studies that failed
    keep_results : maps and page of each study stay below ``state``
    """

    state: Path
    rules: StudyRules = field(default_factory=StudyRules)
    limits: Limits = field(default_factory=Limits)
    quiet_seconds: float = 120.0
    interval_seconds: float = 60.0
    once: bool = False
    retry_failed: bool = False
    keep_results: bool = False
