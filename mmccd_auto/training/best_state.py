"""Which state of a training is best, by a judge that needs no labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from mmccd_auto.model.reconstructor import Reconstructor

Judge = Callable[[Reconstructor], float]
"""Says how good a cycle in evaluation mode is, the more the better, always alike."""
BEST_FACTOR = 1.01
"""By how much an earlier state must be better than the last one to be preferred: judgements vary."""


def is_judged(epoch: int, num_epochs: int, judgements: int) -> bool:
    """Whether the state after ``epoch`` epochs is judged: about ``judgements`` of them, the last one included."""
    return epoch % math.ceil(num_epochs / judgements) == 0 or epoch >= num_epochs


def best_judgement(records: Sequence[dict[str, Any]]) -> float:
    """The best ``synthetic_auprc`` of a training log; -infinity where nothing was judged."""
    return max((judgement for judgement in _judgements(records).values()), default=-math.inf)


def epoch_to_predict_with(records: Sequence[dict[str, Any]], last: int) -> int:
    """The epoch whose state is best; the last one unless another is more than 1 % better, or where it wasn't judged."""
    judged = _judgements(records)
    if last not in judged:
        return last
    best = max(judged, key=judged.__getitem__)
    return best if judged[best] > BEST_FACTOR * judged[last] else last


def _judgements(records: Sequence[dict[str, Any]]) -> dict[int, float]:
    # Logs of earlier versions don't have the entry.
    found = {record["epoch"]: record.get("synthetic_auprc") for record in records}
    return {epoch: judgement for epoch, judgement in found.items() if judgement is not None}
