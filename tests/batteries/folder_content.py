"""What a folder holds, without what differs between two undisturbed runs: times, and pictures' bytes."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Times, and the entries that depend on them.
OF_THE_MOMENT = {"seconds", "samples_per_second", "data_wait_share", "record_sha256"}
_EMBEDDED = re.compile(r'<script type="application/json"[^>]*>(.*?)</script>', re.DOTALL)
HIDDEN = (".incomplete-", ".mmccd-")


def content_of(folder: Path, ignored: tuple[str, ...] = ()) -> dict[str, Any]:
    """Give the content of every file below a folder, by its path there.

    Raises
    ------
    Exception
        If a file can't be read as what its name says.
    """
    return {
        path.relative_to(folder).as_posix(): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ignored
    }


def bytes_of(folder: Path) -> dict[str, str]:
    """Give a hash of every file below a folder, by its path there."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def difference(expected: Any, found: Any, place: str = "") -> str:
    """Say where two contents of a file differ first, and how."""
    if isinstance(expected, dict) and isinstance(found, dict) and set(expected) == set(found):
        pairs = [(f"{place}/{name}", expected[name], found[name]) for name in expected]
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = [(f"{place}/{number}", *pair) for number, pair in enumerate(zip(expected, found, strict=True))]
    else:
        return f"{place} {str(expected)[:100]} became {str(found)[:100]}"
    return next((difference(one, other, where) for where, one, other in pairs if one != other), "")


def left_in_temporary(folder: Path) -> list[str]:
    """Give the names in a TMPDIR, but for the empty cache that torch makes there with the first optimiser."""
    return [
        path.name
        for path in folder.iterdir()
        if not (path.name.startswith("torchinductor_") and path.is_dir() and not any(path.iterdir()))
    ]


def left_behind(folder: Path) -> list[str]:
    """Give the paths of temporary files and locks below a folder."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.name.startswith(HIDDEN)]


def _content(path: Path) -> Any:
    if path.name.endswith(".nii.gz"):
        return hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    readers = {".json": _json, ".jsonl": _lines, ".csv": _table, ".npz": _arrays, ".pth": _weights, ".png": _picture}
    readers[".html"] = _page
    if path.suffix == ".dcm":
        # Two writings of an object have other numbers and times.
        return path.stat().st_size > 1000
    return readers.get(path.suffix, lambda one: one.read_bytes())(path)


def _json(path: Path) -> Any:
    return _lasting(json.loads(path.read_text()))


def _lines(path: Path) -> Any:
    return [_lasting(json.loads(line)) for line in path.read_text().splitlines()]


def _lasting(content: Any, left_out: Collection[str] = OF_THE_MOMENT) -> Any:
    if isinstance(content, dict):
        # Of a written file's facts the picture's and the DICOM objects' are not the same twice.
        return {
            name: _lasting(value, left_out)
            for name, value in content.items()
            if name not in left_out and not name.endswith((".png", ".dcm"))
        }
    return [_lasting(one, left_out) for one in content] if isinstance(content, list) else content


def _page(path: Path) -> Any:
    """What a page shows: its cases and facts, without times and which cases were kept, and the rest of it."""
    text = path.read_text(encoding="utf-8")
    facts = [_lasting(json.loads(one), OF_THE_MOMENT | {"status"}) for one in _EMBEDDED.findall(text)]
    return [*facts, hashlib.sha256(_EMBEDDED.sub("", text).encode()).hexdigest()]


def _table(path: Path) -> Any:
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    return [{name: value for name, value in row.items() if name not in ("seconds", "status")} for row in rows]


def _arrays(path: Path) -> Any:
    with np.load(path, allow_pickle=False) as content:
        return {name: (content[name].shape, content[name].tobytes()) for name in content.files}


def _weights(path: Path) -> Any:
    content = torch.load(path, weights_only=True)
    return {name: value.numpy().tobytes() for name, value in content["weights"].items()}


def _picture(path: Path) -> Any:
    return path.read_bytes().endswith(b"IEND\xaeB`\x82")
