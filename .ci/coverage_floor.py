"""Keep the floor of the coverage from falling: ``coverage_floor.py check``, ``coverage_floor.py advise coverage.json``.

The floor is ``fail_under`` in pyproject.toml. ``check`` ends with status 1 where an earlier commit had a higher one;
``advise`` says to what a measured coverage lets it be raised.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

SETTINGS = "pyproject.toml"
_FLOOR = re.compile(r"^\+?fail_under = ([0-9.]+)$", re.MULTILINE)


def current_floor(folder: Path) -> float:
    """Read the floor that holds now, in per cent."""
    found = _FLOOR.findall((folder / SETTINGS).read_text(encoding="utf-8"))
    if len(found) != 1:
        raise SystemExit(f"{SETTINGS} has {len(found)} lines fail_under = NUMBER: write one.")
    return float(found[0])


def highest_floor(folder: Path) -> float:
    """Find the highest floor of all commits that lead here; 0 where there is no history."""
    command = ["git", "log", "--format=", "--unified=0", "-p", "-G", "^fail_under = ", "--", SETTINGS]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    added = [line for line in done.stdout.splitlines() if line.startswith("+")]
    return max(map(float, _FLOOR.findall("\n".join(added))), default=0.0)


def check(folder: Path) -> None:
    """End with status 1 where the floor is lower than it was."""
    floor, highest = current_floor(folder), highest_floor(folder)
    if floor < highest:
        raise SystemExit(
            f"fail_under in {SETTINGS} is {floor:g} and was {highest:g}: test what is new, the floor may only rise."
        )


def advise(folder: Path, measured: Path) -> str:
    """Say what to do with the floor after a measurement."""
    floor, share = current_floor(folder), json.loads(measured.read_text(encoding="utf-8"))["totals"]["percent_covered"]
    possible = int(share)
    if possible > floor:
        return f"Coverage is {share:.1f} %: raise fail_under in {SETTINGS} from {floor:g} to {possible}."
    return f"Coverage is {share:.1f} %, the floor {floor:g} %."


if __name__ == "__main__":
    here = Path.cwd()
    if sys.argv[1:] == ["check"]:
        check(here)
    elif len(sys.argv) == 3 and sys.argv[1] == "advise":
        print(advise(here, Path(sys.argv[2])))
    else:
        raise SystemExit(__doc__)
