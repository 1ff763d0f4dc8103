"""Which state of a training is best, by a judge that needs no labels."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.model.reconstructor import Reconstructor
from mmccd_auto.trained.checkpoint import CHECKPOINT_BEST, CHECKPOINT_FINAL, Checkpoint, save_checkpoint

Judge = Callable[[Reconstructor], float]
"""Says how good a cycle in evaluation mode is, the more the better, always alike."""
BEST_FACTOR = 1.01
"""By how much an earlier state must be better than the last one to be preferred: judgements vary."""
logger = logging.getLogger(__name__)


def is_judged(epoch: int, num_epochs: int, judgements: int) -> bool:
    """Check whether the state after ``epoch`` epochs is judged: about ``judgements`` of them, the last one included."""
    return epoch % math.ceil(num_epochs / judgements) == 0 or epoch >= num_epochs


def ask(judge: Judge, cycle: Reconstructor, where: str) -> float | None:
    """Ask the judge about a state; None, and a warning that begins with ``where``, where it can't know."""
    try:
        return judge(cycle.eval())
    except MMCCDError as error:
        # The training is worth more than a word on it, and would fail here again when it is continued.
        logger.warning("%s can't be judged (%s)", where, error)
        return None


def best_judgement(records: Sequence[dict[str, Any]]) -> float:
    """Compute the best ``synthetic_auprc`` of a training log; -infinity where nothing was judged."""
    return max((judgement for judgement in _judgements(records).values()), default=-math.inf)


def epoch_to_predict_with(records: Sequence[dict[str, Any]], last: int) -> int:
    """Compute the epoch whose state is best.

    The last one unless another is more than 1 % better, or where it wasn't judged.
    """
    judged = _judgements(records)
    if last not in judged:
        return last
    best = max(judged, key=judged.__getitem__)
    return best if judged[best] > BEST_FACTOR * judged[last] else last


def save_final(last: Checkpoint, records: Sequence[dict[str, Any]], folder: Path) -> Path:
    """Write checkpoint_final.pth into a fold's folder.

    The best state where it is clearly better than the last one and the learning rate didn't fall to 0.

    Parameters
    ----------
    last : the last state
    records : of the training log
    folder : of the fold, with checkpoint_best.pth where a judge was asked

    Returns
    -------
    path of the file
    """
    path = folder / CHECKPOINT_FINAL
    # Where the learning rate ends at 0 the last state is best, and judgements vary more than the states before it.
    falls = last.plan.training.learning_rate_schedule != "constant"
    best = last.epoch if falls else epoch_to_predict_with(records, last.epoch)
    if best == last.epoch:
        save_checkpoint(last, path)
        return path
    logger.info("%s: the state after epoch %d, which finds synthetic anomalies better than the last", path, best)
    with atomic_path(path) as temporary:
        shutil.copyfile(folder / CHECKPOINT_BEST, temporary)
    return path


def _judgements(records: Sequence[dict[str, Any]]) -> dict[int, float]:
    # Logs of earlier versions don't have the entry.
    found = {record["epoch"]: record.get("synthetic_auprc") for record in records}
    return {epoch: judgement for epoch, judgement in found.items() if judgement is not None}
