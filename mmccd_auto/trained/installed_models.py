"""Models that were installed: $mmccd_results/installed_models/NAME, each an unpacked and checked model file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.core.disk.locks import folder_lock
from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import TEMPORARY_PREFIX
from mmccd_auto.core.names import name_problem
from mmccd_auto.trained.manifest import Manifest, is_unpacked, load_manifest
from mmccd_auto.trained.model_folder import ModelFolder

INSTALLED_FOLDER = "installed_models"
INCOMING, OUTGOING = f"{TEMPORARY_PREFIX}install-", f"{TEMPORARY_PREFIX}replaced-"


@dataclass(frozen=True)
class UnpackedModel:
    """A folder that holds an unpacked model file, installed or not.

    Attributes
    ----------
    path : of the folder
    manifest : of the model
    """

    path: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: str | Path) -> UnpackedModel:
        """Read the manifest of a folder; raises :class:`MMCCDError` where it isn't one."""
        return cls(Path(path), load_manifest(path))

    @property
    def name(self) -> str:
        """By which it is known here: that of its folder."""
        return self.path.resolve().name

    def models(self) -> list[ModelFolder]:
        """Return the model folders whose maps are averaged, in the order of the export."""
        return [ModelFolder(self.path / name) for name in self.manifest.models]


def installed_folder(results: str | Path) -> Path:
    """Find where installed models lie below $mmccd_results."""
    return Path(results) / INSTALLED_FOLDER


def installed_names(results: str | Path) -> list[str]:
    """Return the names of the installed models, sorted."""
    folder = installed_folder(results)
    if not folder.is_dir():
        return []
    names = (path.name for path in folder.iterdir() if is_unpacked(path))
    return sorted(name for name in names if name_problem("portable model", name) is None)


def find_unpacked(value: str, results: str | Path) -> UnpackedModel | None:
    """Find the installed model of a name, or the unpacked model file in a folder; None where it is neither.

    An installed model comes before a folder of the same name; ``./NAME`` means the folder.
    """
    if value in installed_names(results):
        return UnpackedModel.load(installed_folder(results) / value)
    return UnpackedModel.load(value) if is_unpacked(value) else None


def check_not_installed(results: str | Path, name: str) -> None:
    """Refuse a name that is taken; raises :class:`MMCCDError`."""
    target = installed_folder(results) / name
    if target.exists():
        raise MMCCDError(f"{target} is installed already: give --overwrite to replace it, or another name by --name.")


def place_model(unpacked: Path, results: str | Path, name: str, overwrite: bool = False) -> Path:
    """Put a checked model among the installed ones: it is there whole, or not at all.

    A kill leaves the model that was there before, or the new one; what it leaves beside them goes with the next
    installation.

    Parameters
    ----------
    unpacked : folder of the checked files, which stays
    results : $mmccd_results
    name : of the model
    overwrite : replace an installed model of this name

    Returns
    -------
    its folder

    Raises
    ------
    MMCCDError
        If there is one of this name, another installation is at work, or the files can't be written.
    """
    home = installed_folder(results)
    target, incoming, outgoing = home / name, home / f"{INCOMING}{name}", home / f"{OUTGOING}{name}"
    with folder_lock(home, "an installed model"), _clean_after(home):
        _finish_earlier(home)
        if not overwrite:
            check_not_installed(results, name)
        try:
            shutil.copytree(unpacked, incoming)
            if target.exists():
                target.rename(outgoing)
            incoming.rename(target)
        except OSError as error:
            raise MMCCDError(
                f"{target} can't be written ({error.strerror or error}): check who may write there, and that there is disk "
                "space."
            ) from error
    return target


@contextmanager
def _clean_after(home: Path) -> Iterator[None]:
    try:
        yield
    finally:
        _finish_earlier(home)


def _finish_earlier(home: Path) -> None:
    """Remove what an installation left, and give a model its name back that was to be replaced."""
    for old in home.glob(f"{OUTGOING}*"):
        target = home / old.name.removeprefix(OUTGOING)
        if target.exists():
            remove_folder(old, home)
        else:
            old.rename(target)
    for left in home.glob(f"{INCOMING}*"):
        remove_folder(left, home)
