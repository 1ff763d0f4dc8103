"""A checkout has the bytes of the repository, whatever the system makes of the ends of lines."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]


def test_a_checkout_of_windows_has_the_same_bytes(tmp_path: Path) -> None:
    """Else ready models don't fit their hashes, and bash runs no script."""
    if shutil.which("git") is None or not (HERE / ".git").exists():
        pytest.skip("no repository of git")
    clone = tmp_path / "clone"
    as_windows = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf"]
    subprocess.run(["git", *as_windows, "clone", "--quiet", str(HERE), str(clone)], check=True)
    kept = ["mmccd_auto/ready/models", ".ci", "*.py", "*.sh"]
    listing = ["git", "-C", str(clone), "ls-files", "--eol", *kept]
    lines = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(lines) > 100
    assert [line for line in lines if "w/crlf" in line or "w/mixed" in line] == []
