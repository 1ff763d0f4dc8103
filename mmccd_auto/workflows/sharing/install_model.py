"""mmccd_install_model: a model file from elsewhere, checked and put among the installed models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.names import check_path_name
from mmccd_auto.datasets.folders import Folders
from mmccd_auto.trained.installed_models import check_not_installed, place_model
from mmccd_auto.trained.model_archive import unpack_archive
from mmccd_auto.trained.portable.model_card import ModelCard
from mmccd_auto.workflows.sharing.check_model import check_model


@dataclass(frozen=True)
class Installed:
    """A model that was installed.

    Attributes
    ----------
    path : of its folder
    cards : of its models
    """

    path: Path
    cards: tuple[ModelCard, ...]

    def describe(self) -> str:
        """Write lines for the terminal."""
        card = self.cards[0]
        lines = [f"installed: {self.path}"]
        lines += [f"licence: {card.licence}"] if card.licence else []
        return "\n".join(
            [*lines, f"it examines {card.input_modality}: mmccd_predict --model {self.path.name} -i SCANS -o MAPS"]
        )


def install_model(folders: Folders, archive: str | Path, name: str | None = None, overwrite: bool = False) -> Installed:
    """Check a model file and install it.

    The file may come from anyone: it is unpacked in a private temporary folder, and everything in it is checked there,
    before anything is written where models lie.

    Parameters
    ----------
    folders : results is used
    archive : zip file that mmccd_export_model made
    name : by which it is to be known here; None takes its own
    overwrite : replace an installed model of this name

    Raises
    ------
    MMCCDError
        If the file is not a model in every respect, its name is taken, or it can't be written.
    """
    archive = Path(archive)
    if name is not None:
        check_path_name("portable model", name, "--name")
    with workspace("install") as folder:
        unpacked = folder / "model"
        try:
            unpacked.mkdir()
            manifest = unpack_archive(archive, unpacked)
        except OSError as error:
            raise MMCCDError(
                f"{archive} can't be unpacked in {folder} ({error.strerror or error}): free disk space there, or set TMPDIR."
            ) from error
        name = name or manifest.name
        if not overwrite:
            check_not_installed(folders.results, name)
        try:
            cards = check_model(unpacked, manifest)
        except MMCCDError as error:
            # Whoever reads it knows the archive, not the temporary folder.
            told = str(error).replace(f"{unpacked}/", f"{archive}: ").replace(str(unpacked), str(archive))
            raise MMCCDError(told) from error
        return Installed(place_model(unpacked, folders.results, name, overwrite), tuple(cards))
