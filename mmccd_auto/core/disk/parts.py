"""A part of the cases for each job of an array: parts are disjoint, together they are all, and none waits for another."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.errors import MMCCDError

MOST_PARTS = 100_000
PARTS_FOLDER = ".mmccd-parts"
PATIENCE_SECONDS = 60.0
"""The jobs of an array start at one moment, and each takes the whole folder's lock for an instant."""


@dataclass(frozen=True)
class Part:
    """One part of all cases.

    Attributes
    ----------
    number : from 1
    count : of all parts
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """Read ``I/N``.

        Raises
        ------
        MMCCDError
            If it isn't two whole numbers, the first from 1 to the second.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]) <= MOST_PARTS:
            raise MMCCDError(f"--part {text}: give I/N with I from 1 to N, as in 3/10, and N at most {MOST_PARTS}.")
        return cls(int(found[1]), int(found[2]))

    def holds(self, case: str) -> bool:
        """Tell whether a case belongs to this part: by its name alone, on every machine and at every time."""
        digest = hashlib.sha256(case.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1

    def of(self, cases: Iterable[str]) -> list[str]:
        """Give those of the cases that belong to this part, in their order."""
        return [case for case in cases if self.holds(case)]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


@contextmanager
def part_lock(folder: str | Path, part: Part | None, what: str) -> Iterator[None]:
    """Hold a folder as :func:`mmccd_auto.core.disk.locks.folder_lock` does, or one part of it beside other parts.

    A run over the whole (``part`` None) and runs over parts refuse each other.

    Raises
    ------
    MMCCDError
        If another run holds the folder or the same part of it, or it can't be made or written to.
    """
    folder = Path(folder)
    parts = folder / PARTS_FOLDER
    if part is None:
        with folder_lock(folder, what):
            _refuse_parts(parts, what)
            yield
        return
    # The folder's own lock only while the part's is taken, so that a run over the whole either sees it or comes first.
    with ExitStack() as held:
        with folder_lock(folder, what, PATIENCE_SECONDS):
            # It stays until a run over the whole removes it: a part that ends might do so while another one begins.
            parts.mkdir(exist_ok=True)
            held.enter_context(folder_lock(parts / f"{part.number}-of-{part.count}", f"part {part} of {what}"))
        yield


def _refuse_parts(parts: Path, what: str) -> None:
    """Raise where a part is in work; what killed runs have left is removed."""
    for one in sorted(parts.iterdir()) if parts.is_dir() else ():
        with folder_lock(one, what):
            pass
        with suppress(OSError):
            one.rmdir()
    with suppress(OSError):
        parts.rmdir()
