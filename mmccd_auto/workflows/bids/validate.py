"""Check a dataset by the validator of BIDS, where it is installed."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.strict_json import parse_json

PROGRAM = "bids-validator-deno"
logger = logging.getLogger(__name__)


def find_validator() -> str | None:
    """Find the program: beside this Python, or on the search path; None where it isn't installed."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return shutil.which(PROGRAM, path=places)


def validation_errors(root: str | Path, program: str) -> list[str]:
    """Run the validator; give each error as "CODE at FILE", empty for a valid dataset.

    Parameters
    ----------
    root : folder of the dataset
    program : of :func:`find_validator`

    Raises
    ------
    MMCCDError
        If it ends without a result.
    """
    command = [program, "--json", "--ignoreWarnings", str(Path(root).absolute())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
        issues = parse_json(done.stdout, PROGRAM)["issues"]["issues"]
        return [_told(issue) for issue in issues if issue.get("severity") == "error"]
    except (MMCCDError, OSError, KeyError, TypeError, AttributeError) as error:
        raise MMCCDError(
            f"{PROGRAM} gave no result for {root} ({type(error).__name__}): see what it says by itself, or give "
            "--skip-bids-validation."
        ) from error


def validate(root: str | Path) -> None:
    """Refuse a dataset that isn't valid; where the validator isn't installed, say that nothing was checked.

    Raises
    ------
    MMCCDError
        If the dataset isn't valid, or the validator ends without a result.
    """
    program = find_validator()
    if program is None:
        logger.warning("%s was not validated, since %s is not installed (pip install %s).", root, PROGRAM, PROGRAM)
        return
    errors = validation_errors(root, program)
    if errors:
        more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
        raise MMCCDError(
            f"{root} is no valid BIDS dataset by {PROGRAM}: {errors[0]}{more}; correct it, or give --skip-bids-validation."
        )
    logger.info("%s is a valid BIDS dataset by %s", root, PROGRAM)


def _told(issue: Mapping[str, Any]) -> str:
    code = "/".join(str(part) for part in (issue.get("code"), issue.get("subCode")) if part)
    return f"{code} at {issue['location']}" if issue.get("location") else code
