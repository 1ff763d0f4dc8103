"""JSON from elsewhere: what is wrong with it is one sentence that names the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.strict_json import parse_json, read_json_bytes, shown


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, null, true, "b"]}', {"a": [1, 2.5, None, True, "b"]}),
        (b"\xef\xbb\xbf[1]", [1]),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775807", -(2**63) + 1),
    ],
)
def test_plain_json_is_read(text: str | bytes, value: Any) -> None:
    assert parse_json(text, "a.json") == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "b": 2, "a": 3}', 'names the entry "a" twice'),
        ("[NaN]", "holds NaN, which is no number"),
        ("[-Infinity]", "holds -Infinity"),
        ("[1e999]", "too large for a number"),
        ("9223372036854775808", "beyond what 64 bits hold"),
        ("1" * 100, "a whole number of 100 digits"),
        ("0." + "1" * 100, "a number of 102 characters"),
        ("[" * 100_000, "nested too deeply"),
        ("{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(text: str | bytes, words: str) -> None:
    with pytest.raises(MMCCDError, match=rf"^a\.json .*{words}"):
        parse_json(text, "a.json")


def test_only_a_regular_file_of_limited_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(MMCCDError, match="does not exist"):
        read_json_bytes(path)
    with pytest.raises(MMCCDError, match="no regular file"):
        read_json_bytes(tmp_path)
    path.write_bytes(b"[12]")
    assert read_json_bytes(path, 4) == b"[12]"
    with pytest.raises(MMCCDError, match="larger than"):
        read_json_bytes(path, 3)


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", '"a"'), ([1, None], "[1, null]"), ("é", '"é"'), ("x" * 100, f'"{"x" * 49}... (102 characters)')],
)
def test_values_are_shown_as_json_in_short(value: Any, text: str) -> None:
    assert shown(value) == text
