"""How far a command is: a bar on a terminal, a plain line every so often elsewhere (a log, a scheduler's output)."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from mmccd_auto.core.wording import counted, in_words

Item = TypeVar("Item")
PERIOD_SECONDS = 30.0
"""Between two lines at least."""
logger = logging.getLogger(__name__)


def on_terminal() -> bool:
    """Whether somebody looks on: else bars would fill a log."""
    return sys.stderr is not None and sys.stderr.isatty()


class Progress:
    """Tells how much of a work is done.

    Parameters
    ----------
    total : of the units; 0 where it isn't known yet
    description : of the work
    unit : what is counted, in the singular
    leave : the bar stays on the terminal at the end, and elsewhere a last line tells how long it took; for work within other
        work: False
    disable : tell nothing
    """

    def __init__(self, total: int, description: str, unit: str, *, leave: bool = True, disable: bool = False) -> None:
        self.total, self.description, self.unit = total, description, unit
        self.leave, self.disable = leave, disable
        self.done = 0
        self._started = self._told = time.monotonic()
        shown = on_terminal() and not disable
        self._bar = tqdm(total=total, desc=description, unit=unit, leave=leave) if shown else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.leave and kind is None and not self.disable and self.done:
            logger.info("%s: %s in %s", self.description, self._counted(self.done), in_words(self._seconds()))

    def update(self, units: int = 1) -> None:
        """Count further units."""
        self.done += units
        if self._bar is not None:
            self._bar.update(units)
        elif not self.disable and time.monotonic() - self._told >= PERIOD_SECONDS and self.done < self.total:
            self._told = time.monotonic()
            left = in_words(self._seconds() / max(self.done, 1) * (self.total - self.done))
            units_of = f"{self.done} of {self._counted(self.total)}"
            logger.info("%s: %s, about %s left", self.description, units_of, left)

    def set_total(self, total: int) -> None:
        """Say how many units there are, once more is known."""
        self.total = total
        if self._bar is not None:
            self._bar.total = total
            self._bar.refresh()

    def show(self, figures: Mapping[str, str]) -> None:
        """Show figures behind the bar of a terminal."""
        if self._bar is not None:
            self._bar.set_postfix(figures)

    def _counted(self, number: int) -> str:
        return counted(number, self.unit, f"{self.unit[:-1]}ies" if self.unit.endswith("y") else None)

    def _seconds(self) -> float:
        return time.monotonic() - self._started


def track(
    items: Iterable[Item], *, total: int, description: str, unit: str, leave: bool = True, disable: bool = False
) -> Iterator[Item]:
    """Give the items one by one and tell how many are done; parameters as for :class:`Progress`."""
    with Progress(total, description, unit, leave=leave, disable=disable) as progress:
        for item in items:
            yield item
            progress.update()


class PlainLines:
    """Lines of a long work that are told off the terminal only: the first, the last, and one every so often."""

    def __init__(self) -> None:
        self._told = -float("inf")

    def tell(self, line: str, last: bool = False) -> None:
        """Tell a line, where it is due."""
        if not on_terminal() and (last or time.monotonic() - self._told >= PERIOD_SECONDS):
            self._told = time.monotonic()
            logger.info("%s", line)
