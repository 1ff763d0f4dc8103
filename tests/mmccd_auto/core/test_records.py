"""The one door for JSON: what it lets through, and the sentences by which it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from annotated_types import Ge, Interval, Len

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import OTHERS_ALLOWED, JsonObject, dataclass_from_json, read_content, read_record

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("mmccd_auto", "plans", "preprocessing", "inference")
DOOR = {"mmccd_auto/core/strict_json.py", "mmccd_auto/core/files.py", "mmccd_auto/core/disk/locks.py"}
REMOVAL = {"mmccd_auto/core/disk/removal.py", "mmccd_auto/core/disk/workspaces.py"}


@dataclass(frozen=True)
class Inner:
    count: Annotated[int, Interval(ge=1, le=4096)]
    share: Annotated[float, Interval(ge=0, lt=1)] = 0.5
    edges: tuple[int, int] = (1, 2)


@dataclass(frozen=True)
class Outer:
    inner: Inner
    name: str
    axis: Literal["axial", "coronal"] = "axial"
    parts: Annotated[tuple[Inner, ...], Len(0, 2)] = ()
    by_name: dict[str, Annotated[float, Ge(0)]] = field(default_factory=dict)
    free: JsonObject = field(default_factory=dict)
    wish: float | None = None
    on: bool = False

    def __post_init__(self) -> None:
        if self.name == "impossible":
            raise MMCCDError("name and inner don't fit.")
        if self.name == "defect":
            raise AttributeError("a fault of the program")


@dataclass(frozen=True)
class Part:
    __pydantic_config__: ClassVar[Any] = OTHERS_ALLOWED
    name: str


GOOD = {"inner": {"count": 3}, "name": "x"}


def changed(**entries: object) -> dict:
    return {**GOOD, **entries}


def test_what_fits_is_built() -> None:
    content = changed(parts=[{"count": 1, "edges": [3, 4]}], wish=2, by_name={"a": 1}, free={"a": [1, {"b": None}]})
    found = dataclass_from_json(Outer, content, "file.json")
    assert found.parts == (Inner(1, 0.5, (3, 4)),)
    assert (found.wish, type(found.wish), found.by_name) == (2.0, float, {"a": 1.0})
    assert found.free == {"a": [1, {"b": None}]}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (changed(inner={"count": 0}), "file.json: inner.count is 0: give a whole number from 1 to 4096."),
        (changed(inner={"count": 10**9}), "inner.count is 1000000000: give a whole number from 1 to 4096."),
        (changed(inner={"count": "5"}), 'inner.count is "5": give a whole number from 1 to 4096.'),
        (changed(inner={"count": True}), "inner.count is true: give a whole number"),
        (changed(inner={"count": 2.0}), "inner.count is 2.0: give a whole number"),
        (changed(inner={"count": 1, "share": 1.0}), "inner.share is 1.0: give a number of at least 0 and below 1."),
        (changed(inner={"count": 1, "share": True}), "inner.share is true: give a number"),
        (changed(inner={"count": 1, "edges": [1]}), "the entry inner.edges[1] is missing"),
        (changed(inner={"count": 1, "edges": [1, 2, 3]}), "inner.edges is [1, 2, 3]: give a list of 2"),
        (changed(inner=[]), "inner is []: give an object with count, share, edges."),
        (changed(inner={}), "the entry inner.count is missing: give a whole number from 1 to 4096."),
        (changed(inner={"cout": 1}), "unknown entry inner.cout; known are count, share, edges."),
        (changed(axis="sagital"), 'axis is "sagital": give "axial" or "coronal".'),
        (changed(parts=[{"count": 1}] * 3), "give a list of at most 2 (each an object with count, share, edges)."),
        (changed(parts=[{"count": 1}, {"count": -1}]), "parts[1].count is -1"),
        (changed(by_name={"a": -1}), "by_name.a is -1: give a number of at least 0."),
        (changed(free=[1]), "free is [1]: give an object."),
        (changed(wish="x"), 'wish is "x": give a number or null.'),
        (changed(on=1), "on is 1: give true or false."),
        (changed(name="y" * 5000, on=1), "on is 1"),
        (changed(on="y" * 5000), "... (5002 characters): give true or false."),
        ([], "file.json: it must be an object with inner, name, axis"),
        (None, "file.json: it must be an object"),
        (changed(name="impossible"), "file.json: name and inner don't fit."),
    ],
)
def test_what_does_not_fit_is_told_with_file_and_entry(content: object, sentence: str) -> None:
    with pytest.raises(MMCCDError, match=re.escape(sentence)) as error:
        dataclass_from_json(Outer, content, "file.json")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_a_remedy_stands_where_nobody_edits_a_file() -> None:
    with pytest.raises(MMCCDError, match=r"^a\.json: inner\.count is 0, but must be a whole .* to 4096: make it again\.$"):
        dataclass_from_json(Outer, changed(inner={"count": 0}), "a.json", "make it again")
    with pytest.raises(MMCCDError, match=r"^a\.json: name and inner don't fit: make it again\.$"):
        dataclass_from_json(Outer, changed(name="impossible"), "a.json", "make it again")


def test_a_fault_of_the_program_is_not_hidden() -> None:
    with pytest.raises(AttributeError):
        dataclass_from_json(Outer, changed(name="defect"), "file.json")


def test_other_entries_are_passed_over_where_a_schema_says_so() -> None:
    assert dataclass_from_json(Part, {"name": "x", "other": 1}, "f") == Part("x")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b'{"name": "\xe9"}', "is not valid JSON"),
        (b'\xff\xfe{\x00"\x00', "is not valid JSON"),
        (b'{"name": "a", "name": "b"}', 'names the entry "name" twice'),
        (b'{"name": "a", "inner": {"count": 1, "count": 2}}', 'names the entry "count" twice'),
        (b'{"wish": NaN}', "holds NaN, which is no number"),
        (b'{"wish": -Infinity}', "holds -Infinity, which is no number"),
        (b'{"wish": 1e999}', "holds 1e999, which is too large"),
        (b'{"wish": ' + b"9" * 5000 + b"}", "holds a whole number of 5000 digits"),
        (b'{"wish": -' + b"9" * 20 + b"}", "holds a whole number of 20 digits"),
        (b'{"wish": 0.' + b"1" * 5000 + b"}", "holds a number of 5002 characters"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"free": ' + b"[" * 500 + b"]" * 500 + b"}", "can't be used"),
        (b'{"inner": {"count": 1}, "name": "\\ud800"}', "can't be used"),
        (b"\x00" * 10, "is not valid JSON"),
    ],
)
def test_hostile_text_is_refused_by_a_sentence(tmp_path: Path, text: bytes, sentence: str) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(text)
    with pytest.raises(MMCCDError, match=re.escape(sentence)) as error:
        read_record(Outer, path)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 500


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf{"name": "x"}')
    assert read_content(Part, path) == {"name": "x"}


def test_only_regular_files_of_a_sane_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "large.json").write_text('"' + "x" * 200 + '"')
    for name, words in {"pipe.json": "no regular file", ".": "no regular file", "none.json": "does not exist"}.items():
        with pytest.raises(MMCCDError, match=words):
            read_record(Part, tmp_path / name)
    with pytest.raises(MMCCDError, match=r"large\.json is larger than"):
        read_record(Part, tmp_path / "large.json", largest=100)


def test_everything_that_reads_json_or_removes_folders_goes_through_the_door() -> None:
    """Outside it nobody parses JSON, reads it without a schema, or removes a folder without saying below which."""
    found = []
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            name, text = file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
            if name not in DOOR and re.search(r"\bjson\.loads?\((?!json\.dumps)|\bload_json\b|\bJSONDecoder\b", text):
                found.append(f"{name} reads JSON")
            if name not in REMOVAL and re.search(r"\brmtree\b", text):
                found.append(f"{name} removes folders")
            if name != "mmccd_auto/trained/checkpoint.py" and re.search(r"\btorch\.load\(", text):
                found.append(f"{name} reads checkpoints")
    assert not found


def test_the_door_costs_nothing_until_it_is_used() -> None:
    script = "import sys, mmccd_auto.plans.plan, mmccd_auto.core.names; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
