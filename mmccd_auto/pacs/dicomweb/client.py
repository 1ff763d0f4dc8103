"""An archive that is searched by QIDO-RS, read by WADO-RS and written to by STOW-RS."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client.web import DICOMwebClient
from pydicom.dataset import Dataset

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import atomic_path
from mmccd_auto.dicom.quiet import quiet_pydicom
from mmccd_auto.pacs.archive import Unreachable
from mmccd_auto.pacs.dicomweb.access import WebAccess
from mmccd_auto.pacs.dicomweb.session import CONNECT_SECONDS, SILENCE_SECONDS, BoundedSession
from mmccd_auto.pacs.limits import Limits
from mmccd_auto.pacs.received import is_wanted_file
from mmccd_auto.pacs.rules import MR, StudyRules
from mmccd_auto.pacs.uids import checked_uid

PAGE = 100
MOST_LISTED = 50_000
"""Studies of one look; an archive that names ever more of them ends there."""
# The archive says what it holds, whatever the transfer syntax, and nothing has to be converted there.
_AS_STORED = (("application/dicom", "*"),)
_STUDY, _SERIES, _MODALITY, _BODY_PART, _IMAGES = "0020000D", "0020000E", "00080060", "00180015", "00201209"
_OBJECT = "00080018"
_REFERENCED, _FAILED, _INSTANCE = "ReferencedSOPSequence", "FailedSOPSequence", "ReferencedSOPInstanceUID"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _SeriesEntry:
    uid: str
    images: int


class DicomWebArchive:
    """See :class:`mmccd_auto.pacs.archive.Archive`; nothing of it is kept here."""

    def __init__(self, access: WebAccess, rules: StudyRules, limits: Limits) -> None:
        self._rules, self._limits = rules, limits
        self._search = _client(access, limits.answer_bytes, limits.transfer_seconds)
        self._transfer = _client(access, limits.study_bytes, limits.transfer_seconds)

    def studies(self) -> Iterable[str]:
        """List the studies of the days and with the attributes that the rules name, page by page in the archive's order."""
        filters = {"ModalitiesInStudy": MR, "StudyDate": f"{self._rules.first_day()}-", **self._rules.match}
        found: set[str] = set()
        offset = 0
        while len(found) < MOST_LISTED:
            with _asking("search for studies"):
                page = _listed(self._search.search_for_studies(search_filters=filters, limit=PAGE, offset=offset))
            offset += len(page)
            new = []
            for entry in page:
                try:
                    uid = checked_uid(_value(entry, _STUDY), "study")
                except MMCCDError as error:
                    logger.warning("A study is passed over: %s", error)
                    continue
                if uid not in found:
                    found.add(uid)
                    new.append(uid)
            yield from new
            # Some servers give shorter pages than they are asked for; others know no offsets, and give the first one again.
            if not new:
                return
        logger.warning("More than %d studies fit: narrow --match or --days.", MOST_LISTED)

    def count(self, study: str) -> int:
        """Images of the wanted series."""
        return sum(series.images for series in self._series(study))

    def fetch(self, study: str, folder: Path) -> None:
        """Put the images of the wanted series into a folder, numbered."""
        folder.mkdir(parents=True, exist_ok=True)
        number, size = 0, 0
        for series in self._series(study):
            arrived = 0
            for image in self._images(study, series.uid):
                number, arrived = number + 1, arrived + 1
                path = folder / f"{number:06d}.dcm"
                with atomic_path(path) as temporary, quiet_pydicom():
                    pydicom.dcmwrite(temporary, image, enforce_file_format=True)
                size += path.stat().st_size
                self._check(number, size)
                if not is_wanted_file(path, study, self._rules):
                    path.unlink()
            if arrived < series.images:
                raise Unreachable(f"The archive gave {arrived} of {series.images} images of a series: it is asked again.")

    def store(self, study: str, objects: Sequence[Path]) -> None:
        """Store objects one by one, so that one of them fits into memory is enough."""
        for path in objects:
            with quiet_pydicom():
                content = pydicom.dcmread(path)
            try:
                self._store(study, content)
            except Unreachable:
                # Some archives refuse what they have already, perhaps by an earlier run that was killed.
                if not self._holds(study, str(content.SOPInstanceUID)):
                    raise

    @property
    def holds_images(self) -> bool:
        """They stay in the archive."""
        return False

    def forget(self, study: str) -> None:
        """Nothing is kept."""

    def _series(self, study: str) -> list[_SeriesEntry]:
        with _asking("search for series"):
            found = _listed(self._search.search_for_series(study, fields=[_BODY_PART, _IMAGES, _MODALITY]))
        wanted = {}
        for entry in found:
            texts = [str(_value(entry, tag) or "") for tag in (_MODALITY, _BODY_PART)]
            if self._rules.wants_series(*texts):
                uid = checked_uid(_value(entry, _SERIES), "series")
                wanted[uid] = _SeriesEntry(uid, self._number(_value(entry, _IMAGES), study, uid))
        self._check(sum(series.images for series in wanted.values()), 0)
        return sorted(wanted.values(), key=lambda series: series.uid)

    def _store(self, study: str, content: Dataset) -> None:
        with _asking("store an object"), quiet_pydicom():
            answer = self._transfer.store_instances([content], study_instance_uid=study)
            failed, stored = list(answer.get(_FAILED) or []), list(answer.get(_REFERENCED) or [])
        if failed or (stored and str(content.SOPInstanceUID) not in {str(one.get(_INSTANCE)) for one in stored}):
            reasons = sorted({str(one.get("FailureReason", "none given")) for one in failed})
            raise Unreachable(
                f"The archive does not store an object (reason: {', '.join(reasons) or 'none given'}): see its log."
            )

    def _holds(self, study: str, instance: str) -> bool:
        """Whether the archive has an object; not, where it doesn't say it."""
        try:
            with _asking("search for an object"):
                wanted = {"SOPInstanceUID": instance}
                found = _listed(self._search.search_for_instances(study, search_filters=wanted, limit=1))
        except MMCCDError:
            return False
        return any(_value(entry, _OBJECT) == instance for entry in found)

    def _number(self, value: Any, study: str, series: str) -> int:
        """How many images a series has; counted where the archive doesn't say it, which the standard leaves open."""
        if isinstance(value, (int, str)) and str(value).isdecimal() and len(str(value)) < 10:
            return int(value)
        with _asking("search for images"):
            return len(_listed(self._search.search_for_instances(study, series, limit=self._limits.instances + 1)))

    def _images(self, study: str, series: str) -> Iterator[Dataset]:
        with _asking("give a series"), quiet_pydicom():
            yield from self._transfer.iter_series(study, series, media_types=_AS_STORED)

    def _check(self, images: int, size: int) -> None:
        if images > self._limits.instances:
            raise MMCCDError(
                f"The study has more than {self._limits.instances} images: raise --most_images, or leave it out."
            )
        if size > self._limits.study_bytes:
            raise MMCCDError(f"The study has more than {self._limits.study_bytes >> 20} MiB: it is not taken.")


def _client(access: WebAccess, largest: int, seconds: float) -> DICOMwebClient:
    client = DICOMwebClient(
        access.url.rstrip("/"),
        session=BoundedSession(access, largest, seconds),
        permissive_uid=True,
        timeout=(CONNECT_SECONDS, SILENCE_SECONDS),
    )
    # Trying again is the caller's work, who knows when.
    client.set_http_retry_params(retry=False)
    return client


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Turn what goes wrong between here and the archive into a sentence; the library's own may quote answers."""
    try:
        yield
    except MMCCDError:
        raise
    except requests.exceptions.SSLError as error:
        raise Unreachable(
            f"The archive's certificate is not trusted, or it refuses ours ({_kind(error)}): check --ca_file and "
            "--client_cert."
        ) from error
    except requests.exceptions.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        hint = "check --user and its password" if status in (401, 403) else "see its log"
        raise Unreachable(f"The archive refuses to {what} (status {status}): {hint}.") from error
    except (requests.exceptions.RequestException, OSError) as error:
        raise Unreachable(f"The archive does not answer, asked to {what} ({_kind(error)}): see whether it runs.") from error
    except Exception as error:
        # The library and pydicom raise nearly every kind of exception on answers that aren't as the standard wants them.
        raise MMCCDError(
            f"The archive's answer can't be understood, asked to {what} ({_kind(error)}): see its log."
        ) from error


def _listed(answer: Any) -> list[Any]:
    """Return an answer to a search; raise TypeError where it is no list."""
    if not isinstance(answer, list):
        raise TypeError("no list")
    return answer


def _kind(error: Exception) -> str:
    return type(error).__name__


def _value(entry: Mapping[str, Any], tag: str) -> Any:
    """Give the first value of an attribute in DICOM's JSON; None where it has none."""
    values = (
        entry.get(tag, {}).get("Value") if isinstance(entry, Mapping) and isinstance(entry.get(tag, {}), Mapping) else None
    )
    return values[0] if isinstance(values, list) and values else None
