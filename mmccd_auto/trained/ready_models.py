"""The ready models: which there are, and whether their files are as they were shipped.

They are read where they lie, inside the package, and nothing is ever written there: several runs can use them at once, also
where the package belongs to somebody else.
"""

from __future__ import annotations

from pathlib import Path

from mmccd_auto.core.disk.hashing import file_sha256
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.wording import counted
from mmccd_auto.trained.installed_models import UnpackedModel
from mmccd_auto.trained.manifest import is_unpacked
from mmccd_auto.trained.portable.model_card import load_card

READY = "ready"
"""By which ``--model`` names the ready model of the scans' modality; of FLAIR where that isn't asked."""
BEST_FIRST = ("FLAIR", "T2", "T1")
"""The order of what they find, see documentation/ready_model.md."""
MODELS_FOLDER = Path(__file__).parents[1] / "ready" / "models"
REMEDY = "install mmccd_auto again"


def ready_modalities() -> list[str]:
    """Return the modalities that there are ready models of, the one that finds most first."""
    if not MODELS_FOLDER.is_dir():
        return []
    found = sorted(path.name for path in MODELS_FOLDER.iterdir() if is_unpacked(path))
    known = [name for name in BEST_FIRST if name in found]
    return [*known, *(name for name in found if name not in known)]


def ready_name(modality: str) -> str:
    """Return the name by which ``--model`` names the ready model of a modality: "ready_T1"."""
    return f"{READY}_{modality}"


def ready_names() -> list[str]:
    """Return every name that ``--model`` takes for a ready model."""
    modalities = ready_modalities()
    return [*([READY] if modalities else []), *(ready_name(modality) for modality in modalities)]


def find_ready(name: str) -> UnpackedModel:
    """Find the ready model of one of :func:`ready_names`.

    Raises
    ------
    MMCCDError
        If there is none of that name, or one of its files is missing or isn't as it was shipped.
    """
    if name not in ready_names():
        raise MMCCDError(f"{name} is no ready model; there are: {', '.join(ready_names()) or 'none'}.")
    modality = ready_modalities()[0] if name == READY else name.removeprefix(f"{READY}_")
    try:
        model = UnpackedModel.load(MODELS_FOLDER / modality)
    except MMCCDError as error:
        raise MMCCDError(f"The ready model of {modality} is damaged: {REMEDY} ({error})") from error
    for file, listed in model.manifest.files.items():
        path = model.path / file
        if not path.is_file() or path.stat().st_size != listed.bytes or file_sha256(path) != listed.sha256:
            raise MMCCDError(f"{path} of the ready model is missing or isn't as it was shipped: {REMEDY}.")
    return model


def describe_ready(model: UnpackedModel) -> str:
    """Describe what a user has to know of a ready model, in a line.

    On what it was trained, and what to do for better maps.
    """
    card = load_card(model.path / model.manifest.models[0])
    others = [ready_name(modality) for modality in ready_modalities() if modality != card.input_modality]
    also = f" (others: {', '.join(others)})" if others else ""
    people = "simulated heads" if card.people is None else counted(card.people, "simulated head")
    return (
        f"the ready model of {card.input_modality}{also}, trained on {people} and on no scan of a person; for better maps "
        "train on healthy scans of your own: mmccd_run --healthy CONTROLS"
    )
