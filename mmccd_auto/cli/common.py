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

from tqdm.contrib.logging import logging_redirect_tqdm

from mmccd_auto import __version__
from mmccd_auto.cli.argument_types import MOST_PROCESSES, whole
from mmccd_auto.core.failures import Defect
from mmccd_auto.core.signals import describe_interrupt, endings_as_interrupts, exit_status
from mmccd_auto.core.strict_json import shown
from mmccd_auto.errors import MMCCDError
from mmccd_auto.paths import Folders

logger = logging.getLogger("mmccd_auto")


class _HelpFormatter(argparse.HelpFormatter):
    """Tells the default of each option that has one to tell, unless its help does."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, default = action.help or "", action.default
        if "default" in text or default is None or default is False or default == [] or default is argparse.SUPPRESS:
            return text
        shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else f"{default}"
        return f"{text} (default: {shown})".replace("%", "%%")


def make_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every command has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=_HelpFormatter)
    parser.add_argument("--version", action="version", version=f"mmccd_auto {__version__}")
    parser.add_argument("--verbose", action=_Verbose, help="also show details for developers, such as tracebacks of defects")
    return parser


class _Verbose(argparse.Action):
    """Log details from the moment on that the option is read."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, **more)

    def __call__(self, *_: Any) -> None:
        logger.setLevel(logging.DEBUG)


def add_folder_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Options for some of the three data folders ("raw", "preprocessed", "results")."""
    for name in names:
        parser.add_argument(
            f"--{name}_folder",
            metavar="FOLDER",
            default=None,
            help=f"folder of {name} data; without it the environment variable mmccd_{name}, else ./mmccd/{name}",
        )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """The option -device."""
    parser.add_argument(
        "-device", default="auto", metavar="DEVICE", help="cuda, cuda:1, mps or cpu; auto takes a GPU where there is one"
    )


def add_processes_option(parser: argparse.ArgumentParser, default: int | None = None) -> None:
    """The option -np."""
    parser.add_argument(
        "-np",
        dest="processes",
        type=whole(0, MOST_PROCESSES),
        metavar="N",
        default=min(8, os.cpu_count() or 1) if default is None else default,
        help="worker processes; 0 works in this process, one case at a time (least memory)",
    )


def add_extension_option(parser: argparse.ArgumentParser) -> None:
    """The option --extensions: folders with one's own planners and trainers."""
    parser.add_argument(
        "--extensions",
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="folders whose .py files hold your own planners or trainers (they are run as code: use your own only)",
    )


def folders_from(options: argparse.Namespace) -> Folders:
    """The data folders that the options, the environment and the defaults give; logged, so that nobody has to guess."""
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
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # They tell of every attribute that they copy, unique numbers of patients' scans among them.
    for name in ("highdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with endings_as_interrupts(), logging_redirect_tqdm():
            return command(arguments) or 0
    except Defect as error:
        logger.debug("%s", error.details)
        print(f"error: {error}", file=sys.stderr)
        return 1
    except MMCCDError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None:
            raise
        # A name that is too long, a folder that is closed, a disk that is gone: nothing that the software does wrong.
        logger.debug("%s", traceback.format_exc())
        told = f"{shown(str(error.filename))}: {error.strerror or error}"
        print(f"error: {told}: check that this path is right and that you may use it.", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print(describe_interrupt(error), file=sys.stderr)
        return exit_status(error)
