"""What the files of a predicted scan are called in a BIDS derivative: by the entities of the scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.sources.bids.names import joined, parse_name

ANATOMY = "anat"
# Of those that a scan may have, the ones that masks and segmentations may have too.
KEPT = ("sub", "ses", "task", "acq", "ce", "rec", "run", "echo", "part", "chunk", "space")


@dataclass(frozen=True)
class Target:
    """Where the files of a scan lie in the derivative.

    Attributes
    ----------
    folder : below the derivative, ``sub-01/ses-1/anat``
    entities : of the scan that its files keep, value by key
    """

    folder: Path
    entities: dict[str, str]

    def file(self, suffix: str, ending: str, **more: str) -> Path:
        """Give a file's path below the derivative, with further entities: ``desc``, ``label``."""
        return self.folder / f"{joined(self.entities | more)}_{suffix}{ending}"

    @property
    def person(self) -> str:
        """``sub-01``."""
        return f"sub-{self.entities['sub']}"

    @property
    def session(self) -> str | None:
        """``ses-1``; None where there are no sessions."""
        return f"ses-{self.entities['ses']}" if "ses" in self.entities else None


def target_of(scan: str) -> Target:
    """Say where the files of a scan go.

    Parameters
    ----------
    scan : its path below the dataset

    Raises
    ------
    MMCCDError
        If it isn't named by BIDS.
    """
    name = parse_name(PurePosixPath(scan).name)
    if name is None:
        raise MMCCDError(f"{scan} is not named by BIDS, so that its maps have no name there either: rename it.")
    entities = {key: value for key, value in name.entities.items() if key in KEPT}
    folders = [name.person, *([name.session] if name.session else []), ANATOMY]
    return Target(Path(*folders), entities)
