"""Tuples of known length."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def pair(values: Iterable[Item]) -> tuple[Item, Item]:
    """Take two values; ValueError if there are more or fewer."""
    first, second = values
    return first, second


def triple(values: Iterable[Item]) -> tuple[Item, Item, Item]:
    """Take three values; ValueError if there are more or fewer."""
    first, second, third = values
    return first, second, third
