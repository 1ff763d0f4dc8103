"""Removing folders, and only where they belong."""

from __future__ import annotations

import shutil
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError


def remove_folder(folder: str | Path, below: str | Path) -> None:
    """Remove a folder with all that is in it, where there is one.

    Parameters
    ----------
    folder : to remove
    below : that it must lie in, links followed

    Raises
    ------
    MMCCDError
        If it lies elsewhere, is a link, or can't be removed.
    """
    folder, below = Path(folder), Path(below)
    if not folder.is_symlink() and not folder.exists():
        return
    real = folder.parent.resolve() / folder.name
    inside = folder.name not in ("", ".", "..") and below.resolve() in real.parents
    if folder.is_symlink() or not inside:
        raise MMCCDError(f"{folder} is not removed, because it is a link or lies outside {below}: remove it by hand.")
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        # Another process removes it, too.
        return
    except OSError as error:
        raise MMCCDError(f"{folder} could not be removed ({error.strerror or error}): check who may write there.") from error
