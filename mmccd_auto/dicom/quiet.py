"""Reading DICOM without showing what stands in it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pydicom.config import IGNORE, settings
from pydicom.config import logger as pydicom_logger


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """Keep pydicom from warning of odd values: its warnings quote them, and they may be the patient's name."""
    modes = settings.reading_validation_mode, settings.writing_validation_mode
    disabled = pydicom_logger.disabled
    settings.reading_validation_mode = settings.writing_validation_mode = IGNORE
    pydicom_logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        settings.reading_validation_mode, settings.writing_validation_mode = modes
        pydicom_logger.disabled = disabled
