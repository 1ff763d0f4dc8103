"""Prediction spread over machines: at the workers of a cluster, each of which loads the model once, or part by part."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from mmccd_auto.core.disk.parts import Part
from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.cluster.connection import Cluster
from mmccd_auto.core.processes.executor import run_cases
from mmccd_auto.core.processes.memory import only_what_is_new
from mmccd_auto.core.processes.streams import Settled, closed_at_the_end
from mmccd_auto.inference.lesions.records import LesionRecord
from mmccd_auto.inference.prediction.case_files import SummaryRow
from mmccd_auto.inference.prediction.prediction import PredictsScans
from mmccd_auto.sources.inputs import InputCase, InputListing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Elsewhere:
    """Workers that predict.

    Attributes
    ----------
    cluster : connected
    load : loads the model, or the models; can be sent to a worker
    run : a name of this run of a command, by which a worker knows that the model it holds is the one
    """

    cluster: Cluster
    load: Callable[[], PredictsScans]
    run: str = field(default_factory=lambda: uuid.uuid4().hex)


class CaseRun(Protocol):
    """What is the same for all cases of a run over a folder: a dataclass, which is sent to workers without ``predictor``."""

    @property
    def masks(self) -> Mapping[str, Path] | None:
        """The brain mask of each case; None where none are given."""

    @property
    def written(self) -> dict[str, tuple[str, ...]]:
        """The names of the files that were written, by case."""

    @property
    def lesions(self) -> dict[str, tuple[LesionRecord, ...]]:
        """The lesions, by case."""

    def rows(self, cases: Sequence[InputCase], continue_prediction: bool = ...) -> Iterator[SummaryRow | Settled]:
        """Predict the cases, or keep them."""


@dataclass(frozen=True)
class Spread:
    """How the cases of a prediction are spread.

    Attributes
    ----------
    elsewhere : workers; None predicts in this process
    part : of the cases; None takes all
    """

    elsewhere: Elsewhere | None = None
    part: Part | None = None

    def chosen(self, listing: InputListing) -> InputListing:
        """Give the cases of the part."""
        if self.part is None:
            return listing
        cases = tuple(found for found in listing.cases if self.part.holds(found.case))
        logger.info("part %s: %d of %d cases", self.part, len(cases), len(listing.cases))
        return replace(listing, cases=cases, ignored=())

    def check_seen(self, listing: InputListing, temporary: Path, source: Path) -> None:
        """Raise :class:`MMCCDError` where scans were unpacked on this machine, which workers at others don't see."""
        if self.elsewhere is None or self.elsewhere.cluster.here:
            return
        for found in listing.cases:
            if found.series is not None and any(temporary in Path(file).parents for file in found.series.files):
                raise MMCCDError(
                    f"{source} has to be unpacked, which the machines of a cluster would not see: unpack it into a folder "
                    "that all of them share, and give that."
                )

    def rows(self, run: CaseRun, cases: Sequence[InputCase], keep: bool) -> Iterator[SummaryRow | Settled]:
        """Give what becomes of the cases, in their order, here or at the workers.

        Parameters
        ----------
        run : over the folder
        cases : that are predicted
        keep : those that are finished
        """
        return run.rows(cases, keep) if self.elsewhere is None else _rows_elsewhere(self.elsewhere, run, cases, keep)


ALL_HERE = Spread()


@dataclass(frozen=True)
class _Predicted:
    """What a worker tells of a case: the line of summary.csv, and which files and lesions it has."""

    row: SummaryRow
    written: tuple[str, ...]
    lesions: tuple[LesionRecord, ...]


def _rows_elsewhere(
    elsewhere: Elsewhere, run: CaseRun, cases: Sequence[InputCase], keep: bool
) -> Iterator[SummaryRow | Settled]:
    arguments = []
    for found in cases:
        masks = None if run.masks is None else {found.case: run.masks[found.case]}
        sent = _without(run, predictor=None, masks=masks, workspace=Path(), written={}, lesions={})
        arguments.append((found.case, (elsewhere.run, elsewhere.load, sent, found, keep)))
    for outcome in run_cases(predict_at_worker, arguments, elsewhere.cluster, "prediction"):
        if outcome.result is None:
            yield Settled(MMCCDError(str(outcome.error)))
            continue
        run.written[outcome.case] = outcome.result.written
        run.lesions[outcome.case] = outcome.result.lesions
        yield outcome.result.row


def _without(run: Any, **replaced: Any) -> CaseRun:
    # Of any kind: a protocol can't say that its members are dataclasses.
    changed: CaseRun = replace(run, **replaced)
    return changed


class _Model:
    """The model that this process holds, as a worker: one at a time, of one run."""

    def __init__(self) -> None:
        self.run = ""
        self.predictor: PredictsScans | None = None

    def of(self, run: str, load: Callable[[], PredictsScans]) -> PredictsScans:
        """Give the model of a run, loaded where another one was held, whose memory is given back first."""
        if self.predictor is None or self.run != run:
            self.predictor = None
            # What there is to say of the model is said where the command was given.
            package = logging.getLogger(__name__.split(".")[0])
            level = package.level
            package.setLevel(logging.ERROR)
            try:
                self.predictor, self.run = load(), run
            finally:
                package.setLevel(level)
        return self.predictor


_model = _Model()


def predict_at_worker(
    name: str, load: Callable[[], PredictsScans], run: CaseRun, found: InputCase, keep: bool
) -> _Predicted:
    """Predict one case and write its files, by the model that this worker holds.

    Parameters
    ----------
    name : of the run
    load : loads the model
    run : over the folder, without what is this worker's own
    found : the case
    keep : it, where it is finished

    Raises
    ------
    MMCCDError or MemoryError
        If the model can't be loaded, or the case can't be predicted.
    """
    with workspace("predict") as temporary, only_what_is_new():
        own = _without(run, predictor=_model.of(name, load), workspace=temporary)
        rows = own.rows([found], keep)
        with closed_at_the_end(rows):
            (row,) = rows
    if isinstance(row, Settled):
        row = row.outcome
    if not isinstance(row, SummaryRow):
        raise row
    return _Predicted(row, own.written.get(found.case, ()), own.lesions.get(found.case, ()))
