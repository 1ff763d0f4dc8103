"""Words for people: counted things, and sentences that follow each other."""

from __future__ import annotations

from collections.abc import Iterable


def counted(number: int, thing: str, things: str | None = None) -> str:
    """Say how many there are: "1 step", "2 steps"; ``things`` is a plural that isn't ``thing`` with an s."""
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"


def listed(items: Iterable[str], thing: str) -> str:
    """Name some things: "fold 0", "folds 0, 1"."""
    names = list(items)
    return f"{thing if len(names) == 1 else f'{thing}s'} {', '.join(names)}"


def clauses(sentences: Iterable[str]) -> str:
    """Join sentences to one line, parted by semicolons; each may end with a full stop, empty ones are left out."""
    return "; ".join(text for text in (one.strip().rstrip(".") for one in sentences) if text)


def sentences(texts: Iterable[str]) -> str:
    """Join texts to sentences: each begins with a capital and ends with one full stop; empty ones are left out."""
    stripped = [one.strip().rstrip(".") for one in texts]
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in stripped if text)


def in_words(seconds: float) -> str:
    """Write a duration as a person would say it."""
    for limit, unit, size in ((90, "s", 1), (90 * 60, "minutes", 60), (48 * 3600, "hours", 3600)):
        if seconds < limit:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds / 86400:.3g} days"
