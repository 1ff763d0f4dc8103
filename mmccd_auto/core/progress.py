"""How far a command is: a bar on a terminal, a plain line every so often elsewhere (a log, a scheduler's output)."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from tqdm import tqdm

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.wording import counted, in_words

Item = TypeVar("Item")
PERIOD_SECONDS = 30.0
"""Between two lines at least."""
logger = logging.getLogger(__name__)


def on_terminal() -> bool:
    """Check whether standard error is a terminal: bars would fill a log."""
    return sys.stderr is not None and sys.stderr.isatty()


class ConsoleHandler(logging.Handler):
    """Write messages to standard error, above the bars of a terminal.

    Attributes
    ----------
    prefix : of the loggers whose messages below a warning are shown; "" shows those of all
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.prefix = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a message is shown."""
        wanted = record.levelno >= logging.ERROR or record.name.startswith(self.prefix)
        return wanted and bool(super().filter(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        try:
            if sys.stderr is not None:
                tqdm.write(self.format(record), file=sys.stderr)
        except (OSError, ValueError):
            self.handleError(record)


class JsonLinesHandler(logging.FileHandler):
    """Append messages to a file, one JSON object a line.

    Parameters
    ----------
    path : of the file; it is made, or added to

    Raises
    ------
    MMCCDError
        If the file can't be written.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            super().__init__(path, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            reason = error.strerror or error
            raise MMCCDError(
                f"{path} can't be written ({reason}): give --json_log a file in a folder that exists."
            ) from error

    def format(self, record: logging.LogRecord) -> str:
        """Give a message as a JSON object: time (UTC), level, logger, message and, where it is known, case."""
        content = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        case = getattr(record, "case", None)
        if case is not None:
            content["case"] = str(case)
        return json.dumps(content)


@contextmanager
def console_messages() -> Iterator[ConsoleHandler]:
    """Show the messages of all loggers on standard error, and remove every handler that is added meanwhile at the end."""
    root, console = logging.getLogger(), ConsoleHandler()
    before, level, own_level = list(root.handlers), root.level, logging.getLogger("mmccd_auto").level
    root.addHandler(console)
    root.setLevel(logging.INFO)
    try:
        yield console
    finally:
        for handler in [one for one in root.handlers if one not in before]:
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        logging.getLogger("mmccd_auto").setLevel(own_level)


def find_console() -> ConsoleHandler | None:
    """Give the handler that shows messages; None where no command runs, as in a notebook."""
    return next((one for one in logging.getLogger().handlers if isinstance(one, ConsoleHandler)), None)


@contextmanager
def details_to_file(path: Path, shown: str) -> Iterator[None]:
    """Write every message to a file, and show only those of one package, and errors.

    Parameters
    ----------
    path : of the file, which is added to
    shown : prefix of the loggers whose messages are shown; with --verbose all are

    Raises
    ------
    MMCCDError
        If the file can't be written.
    """
    root, console = logging.getLogger(), find_console()
    try:
        file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise MMCCDError(f"{path} can't be written ({error.strerror or error}): give another output folder.") from error
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root.addHandler(file)
    if console is not None and console.level > logging.DEBUG:
        console.prefix = shown
    try:
        yield
    finally:
        root.removeHandler(file)
        file.close()
        if console is not None:
            console.prefix = ""


def _bars_shown(leave: bool) -> tuple[bool, bool]:
    """Say whether bars are shown on this standard error, and whether one stays there at its end."""
    console = find_console()
    quiet = console is not None and console.level > logging.INFO
    brief = console is not None and bool(console.prefix)
    return on_terminal() and not quiet, leave and not brief


class Progress:
    """Shows how much of a work is done.

    Parameters
    ----------
    total : of the units; 0 where it isn't known yet
    description : of the work
    unit : what is counted, in the singular
    leave : the bar stays on the terminal at the end, and elsewhere a last line says how long it took; for work within other
        work: False
    disable : show nothing
    """

    def __init__(self, total: int, description: str, unit: str, *, leave: bool = True, disable: bool = False) -> None:
        self.total, self.description, self.unit = total, description, unit
        self.leave, self.disable = leave, disable
        self.done = 0
        self._started = self._told = time.monotonic()
        shown, stays = _bars_shown(leave)
        self._bar = tqdm(total=total, desc=description, unit=unit, leave=stays) if shown and not disable else None

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
    """Give the items one by one and show how many are done; parameters as for :class:`Progress`."""
    with Progress(total, description, unit, leave=leave, disable=disable) as progress:
        for item in items:
            yield item
            progress.update()


class PlainLines:
    """Lines of a long work that are written off the terminal only: the first, the last, and one every so often."""

    def __init__(self) -> None:
        self._told = -float("inf")

    def tell(self, line: str, last: bool = False) -> None:
        """Write a line, where it is due."""
        if not on_terminal() and (last or time.monotonic() - self._told >= PERIOD_SECONDS):
            self._told = time.monotonic()
            logger.info("%s", line)
