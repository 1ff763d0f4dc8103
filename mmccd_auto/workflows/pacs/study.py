"""One study: its images are fetched, predicted, and what comes out is filed with it. What was interrupted goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.failures import Defect, failure_of, sentence_of
from mmccd_auto.dicom.writing.derived import instance_uid
from mmccd_auto.inference.options import PredictionOptions
from mmccd_auto.inference.prediction.case_files import DONE, SKIPPED
from mmccd_auto.inference.prediction.folder_run import RunSummary
from mmccd_auto.inference.prediction.scan_predictor import ScanPredictor
from mmccd_auto.pacs.archive import Archive, Unreachable
from mmccd_auto.pacs.records import RESULTS, WORK, Ledger, Status, StudyRecord
from mmccd_auto.workflows.pacs.objects import make_objects, objects_in
from mmccd_auto.workflows.predict import run_predictor

MOST_ATTEMPTS = 8
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 60.0, 3600.0
KILLED = f"the work on it ended without a result {MOST_ATTEMPTS} times, perhaps for want of memory"
NOTHING_ARRIVED = "it has no image that is worked on"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StudyWork:
    """What is the same for all studies.

    Attributes
    ----------
    archive : where they come from and where the objects go
    ledger : of what became of each
    predictor : that makes the maps
    options : as the maps are made
    keep_results : whether the maps and the page stay in the state folder
    clock : s since 1970
    """

    archive: Archive
    ledger: Ledger
    predictor: ScanPredictor
    options: PredictionOptions
    keep_results: bool = False
    clock: Callable[[], float] = time.time

    def work_on(self, record: StudyRecord) -> StudyRecord:
        """Work on a study as far as it goes, and write what became of it; no failure goes beyond it.

        Parameters
        ----------
        record : of the study as it is now
        """
        if record.attempts >= MOST_ATTEMPTS:
            return self._end(replace(record, status="failed", reason=record.reason or KILLED))
        # What is written before the work begins outlives a process that is killed in it.
        record = replace(record, attempts=record.attempts + 1)
        try:
            if record.status != "predicted" or not self._objects(record):
                record = self._predict(self.ledger.write(replace(record, status="working")))
            return self._store(self.ledger.write(record)) if record.status == "predicted" else self._end(record)
        except Unreachable as error:
            return self._later(record, str(error))
        except Exception as error:
            failure = failure_of(error)
            if isinstance(failure, Defect):
                logger.debug("study %s: %s", record.study, failure.details)
            return self._end(replace(record, status="failed", reason=sentence_of("the study", failure)))

    def _predict(self, record: StudyRecord) -> StudyRecord:
        """Fetch and predict; the objects lie in the work folder afterwards, and the images are gone."""
        work = self._work(record.study)
        self._remove(work)
        images, maps = work / "images", work / "maps"
        images.mkdir(parents=True)
        self.archive.fetch(record.study, images)
        if not any(images.iterdir()):
            return replace(record, status="skipped", reason=NOTHING_ARRIVED)
        logger.info("study %s: %d images are predicted", record.study, sum(1 for _ in images.iterdir()))
        try:
            summary = run_predictor(self.predictor, images, maps, self.options)
        finally:
            self._remove(images)
        return self._outcome(record, summary, maps)

    def _outcome(self, record: StudyRecord, summary: RunSummary, maps: Path) -> StudyRecord:
        cases = [row for row in summary.rows if row.case]
        if len(cases) > 1:
            raise MMCCDError("The study's images name several patients or studies: correct it in the archive.")
        (row,) = cases
        if row.status == SKIPPED:
            return replace(record, status="skipped", reason=row.reason)
        if row.status != DONE:
            return replace(record, status="failed", reason=row.reason)
        objects = make_objects(maps, row.case, self._work(record.study) / "objects")
        if self.keep_results:
            kept = self.ledger.results_folder(record.study)
            remove_folder(kept, self.ledger.folder / RESULTS)
            kept.parent.mkdir(parents=True, exist_ok=True)
            maps.replace(kept)
        self._remove(maps)
        return replace(record, status="predicted", objects=tuple(instance_uid(path) for path in objects))

    def _store(self, record: StudyRecord) -> StudyRecord:
        # Their numbers are made of their content: an archive that has one already takes it for the same.
        self.archive.store(record.study, self._objects(record))
        return self._end(replace(record, status="done", reason=""))

    def _later(self, record: StudyRecord, reason: str) -> StudyRecord:
        """Leave a study for a while, a longer one each time."""
        pause = min(FIRST_PAUSE_SECONDS * 2 ** (record.attempts - 1), LONGEST_PAUSE_SECONDS)
        logger.warning("study %s: %s It is tried again in %.0f s.", record.study, reason, pause)
        status: Status = "predicted" if record.status == "predicted" else "waiting"
        return self.ledger.write(replace(record, status=status, reason=reason, not_before=self.clock() + pause))

    def _end(self, record: StudyRecord) -> StudyRecord:
        """Write what became of a study, and remove what isn't needed any more."""
        record = self.ledger.write(record)
        if record.status == "done":
            logger.info("study %s: %d objects are filed with it", record.study, len(record.objects))
            self.archive.forget(record.study)
        elif record.status == "skipped":
            logger.info("study %s is left out: %s", record.study, record.reason)
            record = self._without_images(record)
        else:
            logger.error("study %s failed, and is left: %s", record.study, record.reason)
        if record.status != "failed" or not record.objects:
            self._remove(self._work(record.study))
        return record

    def _without_images(self, record: StudyRecord) -> StudyRecord:
        """Remove the received images of a study that is left out, unless others have come: these may be of a wanted series.

        Its count begins at 0 again, so that what comes later is looked at, however many images it has.
        """
        if not self.archive.holds_images or self.archive.count(record.study) != record.images:
            return record
        # The record first: images that outlive a kill are counted again.
        record = self.ledger.write(replace(record, images=0))
        self.archive.forget(record.study)
        return record

    def _objects(self, record: StudyRecord) -> list[Path]:
        found = objects_in(self._work(record.study) / "objects")
        return found if len(found) == len(record.objects) else []

    def _work(self, study: str) -> Path:
        return self.ledger.work_folder(study)

    def _remove(self, folder: Path) -> None:
        remove_folder(folder, self.ledger.folder / WORK)
