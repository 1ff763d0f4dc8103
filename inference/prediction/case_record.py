"""CASE.json as a promise: which files belong to a case, and whether they and the record itself are as they were written."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmccd_auto.core.disk.hashing import file_sha256
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import JsonObject, read_record

FILES, SEAL = "files", "record_sha256"
ASKED = "by_input_alone"
"""What the request said of threshold and units, where the record has those of more modalities."""
logger = logging.getLogger(__name__)


def sealed(record: Mapping[str, Any], output: Path, names: Sequence[str]) -> dict[str, Any]:
    """Add to a record the size and hash of the case's files, and a hash of the record.

    Parameters
    ----------
    record : what CASE.json is to say
    output : folder of the files
    names : of the files, all written by now

    Raises
    ------
    MMCCDError
        If a file can't be read again.
    """
    try:
        files = {name: {"bytes": (output / name).stat().st_size, "sha256": file_sha256(output / name)} for name in names}
    except OSError as error:
        raise MMCCDError(
            f"{output}: a file that was just written can't be read ({error.strerror or error}): check the disk, and that "
            "nothing else removes files there."
        ) from error
    content = {**record, FILES: files}
    return {**content, SEAL: _seal(content)}


def finished_record(output: Path, case: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read CASE.json of a case that was finished by the same request, and whose files are as they were written.

    A record or file that was damaged or cut off since is said, and the case counts as not finished.

    Returns
    -------
    the record; None where there is none that can be believed, or the request was another one
    """
    path = output / f"{case}.json"
    if not path.is_file():
        return None
    try:
        record = read_record(JsonObject, path)
    except MMCCDError as error:
        logger.warning("%s: predicted again: %s", case, error)
        return None
    reason = _why_not_believed(record)
    if reason is not None:
        logger.warning("%s: predicted again: %s %s.", case, path.name, reason)
        return None
    asked = json.loads(json.dumps(dict(request)))
    answered = record | record.get(ASKED, {})
    if any(name not in answered or answered[name] != value for name, value in asked.items()):
        return None
    damaged = next((name for name, facts in record[FILES].items() if not _is_as_written(output / name, facts)), None)
    if damaged is not None:
        logger.warning("%s: predicted again: %s is missing or not as it was written.", case, damaged)
        return None
    return record


def missing_files(output: Path, names: Sequence[str]) -> list[str]:
    """Give those of a case's files that aren't there."""
    return [name for name in names if not (output / name).is_file()]


def _why_not_believed(record: Mapping[str, Any]) -> str | None:
    if SEAL not in record:
        return "says nothing of the sizes of its files, as records of earlier versions do"
    if _seal({name: value for name, value in record.items() if name != SEAL}) != record[SEAL]:
        return "was changed since it was written"
    return None


def _is_as_written(path: Path, facts: Mapping[str, Any]) -> bool:
    """Compare a file with its record: the size first, which costs nothing."""
    try:
        return path.is_file() and path.stat().st_size == facts["bytes"] and file_sha256(path) == facts["sha256"]
    except OSError:
        return False


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
