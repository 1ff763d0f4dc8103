"""Watch a clinic's archive, and work on each new study once: what mmccd_pacs does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch

from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.pacs.archive import Archive, Unreachable
from mmccd_auto.pacs.records import Ledger, Status, StudyRecord
from mmccd_auto.workflows.pacs.options import PacsOptions
from mmccd_auto.workflows.pacs.study import StudyWork
from mmccd_auto.workflows.predict import load_predictor

FINAL = ("done", "skipped", "failed")
logger = logging.getLogger(__name__)


@dataclass
class Watch:
    """The looks at an archive.

    Attributes
    ----------
    work : on one study
    options : see :class:`PacsOptions`
    pause : sleeps so many s
    retried : failed studies that this run has begun again
    """

    work: StudyWork
    options: PacsOptions
    pause: Callable[[float], None] = time.sleep
    retried: set[str] = field(default_factory=set)

    def run(self) -> list[str]:
        """Look again and again; with ``once``, one time, and give one sentence for each study that failed in it."""
        while True:
            failed = self.look()
            if self.options.once:
                return failed
            self.pause(self.options.interval_seconds)

    def look(self) -> list[str]:
        """Work on every study that is complete and not finished; give one sentence for each that failed.

        With ``once``, studies that may still be growing are looked at a second time, after the quiet time.

        Raises
        ------
        Unreachable
            With ``once``, if the archive doesn't answer.
        """
        failed, growing = self._pass()
        if growing and self.options.once and self.options.quiet_seconds > 0:
            logger.info("%d studies may still be growing: they are looked at again in %.0f s", growing, self._quiet)
            self.pause(self._quiet)
            more, _ = self._pass()
            failed += more
        return failed

    @property
    def _quiet(self) -> float:
        return self.options.quiet_seconds

    def _pass(self) -> tuple[list[str], int]:
        failed, growing = [], 0
        try:
            studies = self._unfinished()
        except MMCCDError as error:
            if self.options.once:
                raise
            logger.warning("%s It is asked again in %.0f s.", error, self.options.interval_seconds)
            return [], 0
        for study in studies:
            try:
                record = self._next(study)
                if record is None:
                    continue
                if self.work.clock() - record.since < self._quiet:
                    growing += 1
                    continue
                record = self.work.work_on(record)
                if record.status == "failed":
                    failed.append(f"study {study}: {record.reason}")
            except MMCCDError as error:
                # What is wrong with one study, its record or its count, is no reason to leave the others.
                logger.error("study %s: %s", study, error)
                failed.append(f"study {study}: {error}")
        return failed, growing

    def _unfinished(self) -> list[str]:
        """List the studies that aren't done, as many as are looked at in one pass."""
        found: list[str] = []
        for study in self.work.archive.studies():
            if self._is_done(study):
                continue
            if len(found) == self.options.limits.studies:
                logger.warning("More than %d studies aren't done: the others have to wait for the next look.", len(found))
                break
            found.append(study)
        return found

    def _is_done(self, study: str) -> bool:
        try:
            record = self.work.ledger.read(study)
        except MMCCDError:
            # What is wrong with it is told when the study's turn has come.
            return False
        if record is None or record.status != "done":
            return False
        self.work.archive.forget(study)
        return True

    def _next(self, study: str) -> StudyRecord | None:
        """Read the record of a study that is to be worked on, now or when it is complete; None for one that is not."""
        record = self.work.ledger.read(study)
        if record is not None:
            if record.status == "done" or record.not_before > self.work.clock():
                return None
            if record.status in ("working", "predicted"):
                return record
        return self._counted(study, record)

    def _counted(self, study: str, record: StudyRecord | None) -> StudyRecord | None:
        """Count the images of a study that isn't under way, and decide whether it is to be worked on."""
        ledger, now = self.work.ledger, self.work.clock()
        again = record is not None and record.status == "failed" and self.options.retry_failed and study not in self.retried
        try:
            images = self.work.archive.count(study)
        except Unreachable:
            raise
        except MMCCDError as error:
            if record is not None and record.status == "failed":
                return None
            ledger.write(StudyRecord(study, "failed", reason=str(error)))
            raise
        if record is not None and record.images == images and not again:
            return None if record.status in FINAL else record
        if images == 0:
            return None
        if again and record is not None:
            self.retried.add(study)
            status: Status = "predicted" if record.objects else "waiting"
            return ledger.write(replace(record, status=status, images=images, attempts=0, reason=""))
        # New, or grown: also one that was skipped or failed for want of images that have come since.
        return ledger.write(StudyRecord(study, "waiting", images, since=now))


@contextmanager
def watching(
    archive: Archive, folders: Folders, prediction: PredictionOptions, options: PacsOptions, device: torch.device
) -> Iterator[Watch]:
    """Hold the state folder and load the model; give what looks at the archive."""
    if prediction.brain_masks is not None:
        raise MMCCDError("--brain_masks can't be given here: nobody makes masks of studies that are still to come.")
    export = replace(prediction.export, dicom_seg=True, keep_identity=True, key_file=None, link_file=None)
    asked = replace(prediction, export=export, continue_prediction=False)
    with folder_lock(options.state, "studies"):
        options.state.chmod(0o700)
        work = StudyWork(archive, Ledger(options.state), load_predictor(folders, asked, device), asked, options.keep_results)
        yield Watch(work, options)
