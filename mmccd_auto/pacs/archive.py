"""What the work asks of a clinic's archive, however that is spoken to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from mmccd_auto.core.errors import MMCCDError


class Unreachable(MMCCDError):
    """The other side doesn't answer, or not as it should: to be tried again later."""


class Archive(Protocol):
    """Where studies come from, and where objects go to."""

    def studies(self) -> Iterable[str]:
        """Give the UIDs of the studies that may be worked on, checked.

        Raises
        ------
        Unreachable
            If the archive doesn't answer.
        """

    def count(self, study: str) -> int:
        """Count the images of a study that :meth:`fetch` would give; 0 where it holds none that are wanted.

        Raises
        ------
        Unreachable
            If the archive doesn't answer.
        MMCCDError
            If the study is larger than is allowed.
        """

    def fetch(self, study: str, folder: Path) -> None:
        """Put the images of a study into an empty folder, under names that tell nothing.

        Raises
        ------
        Unreachable
            If the archive doesn't answer, or gives less than it announced.
        MMCCDError
            If what arrives is no DICOM, belongs to another study, or is larger than is allowed.
        """

    def store(self, study: str, objects: Sequence[Path]) -> None:
        """File objects with a study.

        Raises
        ------
        Unreachable
            If the archive doesn't take one of them.
        """

    @property
    def holds_images(self) -> bool:
        """Whether images that arrived lie here until :meth:`forget`, after which :meth:`count` is 0."""

    def forget(self, study: str) -> None:
        """Remove what is kept here of a study that is finished."""
