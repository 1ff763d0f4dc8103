"""What became of each study: a small JSON file a study, by which none is worked on twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Interval, MaxLen

from mmccd_auto.core.files import save_json
from mmccd_auto.core.records import read_record
from mmccd_auto.pacs.uids import Uid, checked_uid

RECORDS, WORK, RESULTS = "studies", "work", "results"
LONGEST_REASON = 2000
_LARGEST_RECORD = 2**20

Status = Literal["waiting", "working", "predicted", "done", "skipped", "failed"]


@dataclass(frozen=True)
class StudyRecord:
    """One study.

    Attributes
    ----------
    study : StudyInstanceUID
    status : "waiting" (it may still be growing, or is to be tried again), "working" (begun, perhaps by a run that was
        killed), "predicted" (its objects are made and not all stored), "done", "skipped" (it holds nothing to predict),
        "failed"
    images : that the study had when it was looked at last
    since : s since 1970, when it was first seen with this number of images
    attempts : how often the work on it was begun
    not_before : s since 1970, before which it is not tried again
    reason : why it waits, was skipped or failed
    objects : SOPInstanceUIDs of the objects that were made of it
    updated : when this was written, with time zone
    """

    study: Uid
    status: Status
    images: Annotated[int, Interval(ge=0)] = 0
    since: Annotated[float, Interval(ge=0)] = 0.0
    attempts: Annotated[int, Interval(ge=0)] = 0
    not_before: Annotated[float, Interval(ge=0)] = 0.0
    reason: Annotated[str, MaxLen(LONGEST_REASON)] = ""
    objects: tuple[Uid, ...] = ()
    updated: str = ""


@dataclass(frozen=True)
class Ledger:
    """The records of all studies, and the folders that the work on them uses.

    Attributes
    ----------
    folder : of the state; nothing in it tells a name
    """

    folder: Path

    def read(self, study: str) -> StudyRecord | None:
        """Read what became of a study; None where it was never seen.

        Raises
        ------
        MMCCDError
            If its record is damaged.
        """
        path = self._path(study)
        if not path.exists():
            return None
        return read_record(
            StudyRecord, path, "restore it, or remove it so that the study is worked on again", _LARGEST_RECORD
        )

    def write(self, record: StudyRecord) -> StudyRecord:
        """Write a record, atomically, and give it as it was written."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        content = asdict(record) | {"reason": record.reason[:LONGEST_REASON], "updated": now}
        save_json(content, self._path(record.study))
        return record

    def studies(self) -> Iterator[str]:
        """List the UIDs of all studies that have a record."""
        for path in sorted((self.folder / RECORDS).glob("*.json")):
            yield checked_uid(path.stem, "study")

    def work_folder(self, study: str) -> Path:
        """Where a study is worked on."""
        return self.folder / WORK / checked_uid(study, "study")

    def results_folder(self, study: str) -> Path:
        """Where the maps and the page of a study stay, where that is asked for."""
        return self.folder / RESULTS / checked_uid(study, "study")

    def _path(self, study: str) -> Path:
        return self.folder / RECORDS / f"{checked_uid(study, 'study')}.json"
