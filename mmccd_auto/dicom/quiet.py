"""Reading DICOM without showing what stands in it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pydicom.config import IGNORE, settings
from pydicom.config import logger as pydicom_logger

_lock = threading.Lock()
_users = 0
_loud = ExitStack()
"""What brings back the settings that there were before the first user."""


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from warning of odd values: its warnings quote them, and they may be the patient's name.

    Its settings are those of the whole process, so that they stay quiet until the last thread that asked for it is done.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            _loud.callback(
                _restore, settings.reading_validation_mode, settings.writing_validation_mode, pydicom_logger.disabled
            )
            _loud.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            settings.reading_validation_mode = settings.writing_validation_mode = IGNORE
            pydicom_logger.disabled = True


def _leave() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            _loud.close()


def _restore(reading: int, writing: int, disabled: bool) -> None:
    settings.reading_validation_mode, settings.writing_validation_mode = reading, writing
    pydicom_logger.disabled = disabled
