"""JSON read strictly: bounded in size, depth and digits, finite, without an entry that stands twice."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError

LARGEST_BYTES = 256 * 2**20
LARGEST_INTEGER = 2**63 - 1
MOST_DIGITS = 64
"""Of one number; what Python writes has 24 at most."""


class _Refused(ValueError):
    """A fault that the parser's hooks found; its text follows the name of the file."""


def read_json_bytes(path: str | Path, largest: int = LARGEST_BYTES) -> bytes:
    """Read a regular file of at most ``largest`` bytes.

    Raises
    ------
    MMCCDError
        If the file is missing, no regular file, too large, or can't be opened.
    """
    path = Path(path)
    try:
        # A pipe or a device would be waited for, or never end.
        if not stat.S_ISREG(path.stat().st_mode):
            raise MMCCDError(f"{path} can't be opened (it is no regular file): put the file itself there.")
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except FileNotFoundError as error:
        raise MMCCDError(f"{path} does not exist: check the path, or run the command that writes it.") from error
    except OSError as error:
        raise MMCCDError(f"{path} can't be opened ({error.strerror or error}): check that it is a readable file.") from error
    if len(content) > largest:
        raise MMCCDError(f"{path} is larger than {largest >> 20} MiB: restore what was written there, or remove it.")
    return content


def parse_json(text: str | bytes, source: str, errors: str = "strict") -> Any:
    """Parse JSON (UTF-8, with or without the byte order mark that Windows editors add).

    Parameters
    ----------
    text : at most LARGEST_BYTES long
    source : file, and line where it has several texts; named in errors
    errors : what becomes of bytes that aren't UTF-8, as for :meth:`bytes.decode`

    Raises
    ------
    MMCCDError
        If it isn't JSON, holds NaN, infinity, a number beyond 64 bits or of too many digits, names an entry twice, or is
        nested too deeply.
    """
    try:
        decoded = text.decode("utf-8-sig", errors) if isinstance(text, bytes) else text
        return json.loads(
            decoded, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_number
        )
    except _Refused as error:
        raise MMCCDError(f"{source} {error}.") from error
    except RecursionError as error:
        raise MMCCDError(f"{source} is nested too deeply: restore the file, or make it again.") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MMCCDError(f"{source} is not valid JSON ({error}): fix it or make it again.") from error


def shown(value: Any) -> str:
    """Return a value as JSON writes it, short enough for a sentence."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = repr(type(value).__name__)
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= 60 else f"{text[:50]}... ({len(text)} characters)"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Refused(f"names the entry {shown(name)} twice: keep the one that is meant")
            seen.add(name)
    return found


def _constant(text: str) -> Any:
    raise _Refused(f"holds {text}, which is no number: give a finite one, or make the file again")


def _integer(text: str) -> int:
    value = int(text) if len(text) <= MOST_DIGITS else None
    if value is None or abs(value) > LARGEST_INTEGER:
        raise _Refused(f"holds a whole number of {len(text.lstrip('-'))} digits, beyond what 64 bits hold: correct it")
    return value


def _number(text: str) -> float:
    if len(text) > MOST_DIGITS:
        raise _Refused(f"holds a number of {len(text)} characters: give {MOST_DIGITS} at most")
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"holds {text}, which is too large for a number: correct it")
    return value
