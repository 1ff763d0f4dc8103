"""What can be wrong with an npz file."""

from __future__ import annotations

import zipfile
import zlib

BROKEN_ARRAYS = (
    *(OSError, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
"""What numpy.load raises on an npz file that is damaged: the zip archive, its compression, or an array in it."""
