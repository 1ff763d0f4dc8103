"""What the commands share: options, logging, and the one place where errors become a sentence and an exit status."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from mmccd_auto import __version__
from mmccd_auto.cli.argument_types import MOST_PROCESSES, whole
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.processes.failures import Defect
from mmccd_auto.core.processes.signals import describe_interrupt, endings_as_interrupts, exit_status
from mmccd_auto.core.progress import JsonLinesHandler, console_messages, find_console
from mmccd_auto.core.strict_json import shown
from mmccd_auto.datasets.folders import Folders

logger = logging.getLogger("mmccd_auto")


class _HelpFormatter(argparse.HelpFormatter):
    """Shows the default of each option that has one to show, unless its help does."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if "default" in text or default is None or default is False or default == [] or default is argparse.SUPPRESS:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else f"{default}"
        return f"{text} (default: {shown})".replace("%", "%%")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Make a parser with the options that every command has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=_HelpFormatter)
    parser.add_argument("--version", action="version", version=f"mmccd_auto {__version__}")
    group = parser.add_argument_group("messages")
    amount = group.add_mutually_exclusive_group()
    amount.add_argument("--verbose", action=_Verbose, help="also show decisions in detail, and tracebacks of defects")
    amount.add_argument("--quiet", action=_Quiet, help="show warnings and errors only, and no progress")
    group.add_argument(
        "--json_log",
        action=_JsonLog,
        metavar="FILE",
        help="append every message to FILE, one JSON object a line (time, level, logger, message, case); also with --quiet",
    )
    return parser


class _AtOnce(argparse.Action):
    """An option that takes effect when it is read, and leaves no value."""

    def __init__(self, option_strings: Sequence[str], dest: str, nargs: int | None = 0, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=nargs, default=argparse.SUPPRESS, **more)


class _Verbose(_AtOnce):
    """Show details."""

    def __call__(self, *_: Any) -> None:
        logger.setLevel(logging.DEBUG)
        console = find_console()
        if console is not None:
            console.setLevel(logging.DEBUG)


class _Quiet(_AtOnce):
    """Show warnings and errors only."""

    def __call__(self, *_: Any) -> None:
        console = find_console()
        if console is not None:
            console.setLevel(logging.WARNING)


class _JsonLog(_AtOnce):
    """Append messages to a file, which is opened before any work starts."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=None, **more)

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, *_: Any) -> None:
        logging.getLogger().addHandler(JsonLinesHandler(values))


def add_folder_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the options for some of the three data folders ("raw", "preprocessed", "results")."""
    for name in names:
        parser.add_argument(
            f"--{name}_folder",
            metavar="FOLDER",
            default=None,
            help=f"folder of {name} data; without it the environment variable mmccd_{name}, else ./mmccd/{name}",
        )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add the option -device."""
    parser.add_argument(
        "-device", default="auto", metavar="DEVICE", help="cuda, cuda:1, mps or cpu; auto takes a GPU where there is one"
    )


def add_processes_option(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    """Add the option -np."""
    parser.add_argument(
        "-np",
        dest="processes",
        type=whole(0, MOST_PROCESSES),
        metavar="N",
        default=min(8, os.cpu_count() or 1) if default is None else default,
        help="worker processes; 0 works in this process, one case at a time (least memory)",
    )


def add_extension_option(parser: argparse.ArgumentParser) -> None:
    """Add the option --extensions: folders with one's own planners and trainers."""
    parser.add_argument(
        "--extensions",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders whose .py files hold your own planners or trainers (they are run as code: use your own only)",
    )


def folders_from(options: argparse.Namespace) -> Folders:
    """Return the data folders that the options, the environment and the defaults give.

    Logged, so that nobody has to guess.
    """
    folders = Folders.resolve(
        raw=getattr(options, "raw_folder", None),
        preprocessed=getattr(options, "preprocessed_folder", None),
        results=getattr(options, "results_folder", None),
        environment=os.environ,
    )
    logger.info("%s", folders.describe())
    return folders


def run_command(command: Callable[[Sequence[str] | None], int | None], arguments: Sequence[str] | None = None) -> int:
    """Run a command's function; give its exit status.

    An :class:`MMCCDError` is printed as one sentence (status 1). An interruption ends with status 130, and so do, with 143
    and 129, the signals that schedulers (SIGTERM) and closed terminals (SIGHUP) send. What the operating system says about a
    path is printed as a sentence too. Anything else is a defect of the software and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        # Names of files may hold bytes that are no text, which would end the run when they are printed.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # They log every attribute that they copy, unique numbers of patients' scans among them.
    for name in ("highdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with console_messages():
        return _status_of(command, arguments)


def _status_of(command: Callable[[Sequence[str] | None], int | None], arguments: Sequence[str] | None) -> int:
    try:
        with endings_as_interrupts():
            return command(arguments) or 0
    except MMCCDError as error:
        if isinstance(error, Defect):
            logger.debug("%s", error.details)
        return _show_error(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        # A name that is too long, a folder that is closed, a disk that is gone: nothing that the software does wrong.
        logger.debug("%s", traceback.format_exc())
        reason = f"{shown(str(error.filename))}: {error.strerror or error}"
        return _show_error(f"{reason}: check that this path is right and that you may use it.")
    except KeyboardInterrupt as error:
        logger.warning("%s", describe_interrupt(error))
        return exit_status(error)


def _show_error(sentence: str) -> int:
    """Write an error to standard error and to the log files; give the exit status."""
    logger.error("error: %s", sentence)
    return 1
