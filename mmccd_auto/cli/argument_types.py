"""What the values of options may be: sane limits, each refused by a sentence before anything begins."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.names import check_fold, check_path_name
from mmccd_auto.core.strict_json import shown

MOST_PROCESSES = 256
MOST_SLICES = 1_000_000
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """Parse a whole number in plain digits from ``lowest`` to ``highest``."""

    def parse(text: str) -> int:
        value = int(text) if _WHOLE.fullmatch(text) else None
        if value is None or not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(f"{shown(text)}: give a whole number from {lowest} to {highest}.")
        return value

    return parse


def number(lowest: float, highest: float, above: bool = False, below: bool = False) -> Callable[[str], float]:
    """Parse a finite number from ``lowest`` to ``highest``.

    Parameters
    ----------
    above, below : ``lowest``, ``highest`` itself doesn't count
    """
    words = f"{'above' if above else 'from'} {lowest:g} {'and below' if below else 'to'} {highest:g}"

    def parse(text: str) -> float:
        value = float(text) if len(text) <= 64 and _NUMBER.fullmatch(text) else math.nan
        inside = (lowest < value if above else lowest <= value) and (value < highest if below else value <= highest)
        if not inside:
            raise argparse.ArgumentTypeError(f"{shown(text)}: give a number {words}.")
        return value

    return parse


def path_name(kind: str) -> Callable[[str], str]:
    """Parse a name that becomes a folder, see :func:`mmccd_auto.core.names.check_path_name`."""

    def parse(text: str) -> str:
        try:
            return check_path_name(kind, text, kind)
        except MMCCDError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse


def fold(text: str) -> str:
    """Parse a fold: all, or a number in plain digits."""
    try:
        return check_fold(text, "fold")
    except MMCCDError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
