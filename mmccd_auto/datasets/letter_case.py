"""Names that differ in their capitals only are one name on the usual disks of macOS and Windows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.datasets.subjects import folded


def check_apart(names: Iterable[str], folder: str | Path) -> None:
    """Check that files by these names can lie side by side in a folder.

    Parameters
    ----------
    names : of cases
    folder : that exists

    Raises
    ------
    MMCCDError
        If two of them are one name there.
    """
    together: dict[str, list[str]] = defaultdict(list)
    for name in names:
        together[folded(name)].append(name)
    same = next((sorted(each) for each in together.values() if len(each) > 1), None)
    if same is not None and not distinguishes_capitals(folder):
        raise MMCCDError(
            f"{folder} can't hold the cases {' and '.join(same)}: its disk takes their names for one. Give them "
            "names that differ in more than capitals or accents, or choose a folder on another disk."
        )


def distinguishes_capitals(folder: str | Path) -> bool:
    """Tell whether names in a folder that exists differ by their capitals, by looking for it under its other spelling."""
    folder = Path(folder).absolute()
    for path in (folder, *folder.parents):
        other = path.with_name(path.name.swapcase()) if path.name else path
        if other.name != path.name:
            return not (other.exists() and other.samefile(path))
    return True
