"""Names of files that are no text: how they are shown, and where they must not go."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError

_ENCODING = sys.getfilesystemencoding()
NO_TEXT = (
    ": its name, or that of a folder above it, holds bytes that are no UTF-8 (an old encoding such as Latin-1): rename it, "
    "for example with convmv."
    if _ENCODING == "utf-8"
    else ": its name, or that of a folder above it, has letters that this system's locale doesn't know "
    f"({_ENCODING}): set LC_ALL=C.UTF-8, or PYTHONUTF8=1, and run the command again."
)


def shown(name: str | Path) -> str:
    """Give a name as it can be printed and saved anywhere: bytes that are no UTF-8 and control characters as escapes."""
    text = os.fsencode(str(name)).decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def has_readable_name(path: str | Path) -> bool:
    """Say whether a path is text; on the bytes of another encoding (Latin-1 of old shares) ITK ends the process."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def check_readable_name(path: str | Path) -> None:
    """Refuse a path that is no text, before ITK sees it.

    Raises
    ------
    MMCCDError
        If the name, or that of a folder above it, holds bytes that are no UTF-8.
    """
    if not has_readable_name(path):
        raise MMCCDError(f"{shown(Path(path).name)}{NO_TEXT}")
