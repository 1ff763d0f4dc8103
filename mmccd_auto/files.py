"""Files that are either complete or absent: atomic writing, and JSON with errors that name the file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmccd_auto.errors import MMCCDError

TEMPORARY_PREFIX = ".incomplete-"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` that takes its name once the block ends without an error.

    The temporary file keeps the whole suffix (``.nii.gz``), because image libraries choose the format by it. If the block
    raises, the temporary file is removed and ``path`` is left as it was.

    Raises
    ------
    MMCCDError
        If the disk is full or the folder can't be written to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise MMCCDError(
            f"{path} could not be written ({error.strerror or error}): free some disk space or choose another folder."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def save_json(content: Any, path: str | Path) -> None:
    """Write ``content`` as indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def load_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    MMCCDError
        If the file is missing or isn't JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MMCCDError(f"{path} does not exist.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MMCCDError(f"{path} is not valid JSON ({error}): mend it or make it anew.") from error
