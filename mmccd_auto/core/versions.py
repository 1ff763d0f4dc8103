"""Versions of the software that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version


def software_versions() -> dict[str, str]:
    """Return the versions of what a training depends on."""
    found = {"python": platform.python_version()}
    for package in ("mmccd_auto", "torch", "numpy", "batchgenerators"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found
