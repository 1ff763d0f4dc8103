"""What short timings found on this machine, kept from one command to the next."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import save_json
from mmccd_auto.core.records import read_record

FILE = "timings.json"
LARGEST_BYTES = 2**20
CACHE_VARIABLE = "XDG_CACHE_HOME"
_known: dict[str, str] = {}
logger = logging.getLogger(__name__)


def timings_file() -> Path:
    """Return the file of the timings: ``$XDG_CACHE_HOME/mmccd_auto/timings.json``, else below ``~/.cache``.

    It may be removed.
    """
    folder = os.environ.get(CACHE_VARIABLE, "").strip() or os.path.expanduser("~/.cache")
    # Containers may run as a user without a home.
    folder = tempfile.gettempdir() if folder.startswith("~") else folder
    return Path(folder) / "mmccd_auto" / FILE


def recall(key: str) -> str | None:
    """Describe what was found for ``key``, by this process or an earlier one; None where nothing was."""
    return _known.get(key) or _read().get(key)


def remember(key: str, value: str) -> None:
    """Keep what was found; where the file can't be written, for this process alone."""
    _known[key] = value
    try:
        save_json({**_read(), key: value}, timings_file())
    except MMCCDError as error:
        logger.info("a timing is not kept for the next command: %s", error)


def _read() -> dict[str, str]:
    path = timings_file()
    if not path.is_file():
        return {}
    try:
        return read_record(dict[str, str], path, largest=LARGEST_BYTES)
    except MMCCDError as error:
        logger.warning("%s It is written again.", error)
        return {}
