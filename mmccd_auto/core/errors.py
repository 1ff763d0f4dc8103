"""The one exception that users are meant to read."""

from __future__ import annotations


class MMCCDError(Exception):
    """Bad input or a bad setting, reported in one sentence.

    The message names the file or option, says what is wrong and what to do. It is raised where the fault is known and
    caught once, in the command line, which prints it without a traceback and exits with status 1.
    """
