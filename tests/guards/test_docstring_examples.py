"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
ROOMS = ("mmccd_auto", "plans", "preprocessing", "inference")


def modules_with_examples() -> list[str]:
    """By the names that they are imported by: three folders lie beside the package that they belong to."""
    found = []
    for room in ROOMS:
        for path in sorted((HERE / room).rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(HERE).with_suffix("").parts
                parts = parts if room == "mmccd_auto" else ("mmccd_auto", *parts)
                found.append(".".join(part for part in parts if part != "__init__"))
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples(name: str) -> None:
    result = doctest.testmod(import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_there_are_examples() -> None:
    assert len(modules_with_examples()) >= 10
