"""The choices and calibrations of a dataset's models before they were changed, so that they can be restored."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmccd_auto.core.disk.removal import remove_folder
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import TEMPORARY_PREFIX, atomic_path, save_json
from mmccd_auto.core.records import read_record
from mmccd_auto.trained.model_folder import BEST_FILE, CALIBRATION_FILE, INFERENCE_FILE, ModelFolder

KEPT_FOLDER = "previous_configuration"
MANIFEST = "kept.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptFile:
    """An entry of kept.json.

    Attributes
    ----------
    there : whether the file was there
    weights : size and time of modification (ns) of the checkpoint that it belongs to; None where it belongs to none
    """

    there: bool
    weights: tuple[int, int] | None = None


def keep_choices(results: Path, models: Sequence[ModelFolder]) -> Path:
    """Copy what decides how a dataset's models predict into the folder ``previous_configuration``.

    A kill leaves what was kept before, or the new copies, whole.

    Parameters
    ----------
    results : $mmccd_results/DATASET
    models : all of its model folders

    Raises
    ------
    MMCCDError
        If the copies can't be written.
    """
    kept, incoming, outgoing = (
        results / name for name in (KEPT_FOLDER, f"{TEMPORARY_PREFIX}kept", f"{TEMPORARY_PREFIX}old")
    )
    try:
        for left in (incoming, outgoing):
            remove_folder(left, results)
        incoming.mkdir()
        entries = {}
        for path, owner in _deciding_files(results, models):
            name = path.relative_to(results).as_posix()
            entries[name] = asdict(KeptFile(path.is_file(), _state(owner)))
            if path.is_file():
                (incoming / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, incoming / name)
        save_json(entries, incoming / MANIFEST)
        if kept.exists():
            kept.rename(outgoing)
        incoming.rename(kept)
        remove_folder(outgoing, results)
    except OSError as error:
        raise MMCCDError(
            f"{kept} can't be written ({error.strerror or error}), so that nothing is changed: check who may write there."
        ) from error
    return kept


def restore_choices(results: Path, models: Sequence[ModelFolder]) -> list[str]:
    """Put back what :func:`keep_choices` has kept. What belongs to folds that were trained since stays as it is.

    Returns
    -------
    names, below ``results``, of what was put back or removed

    Raises
    ------
    MMCCDError
        If nothing was kept, or a file can't be written.
    """
    kept = results / KEPT_FOLDER
    if not (kept / MANIFEST).is_file():
        raise MMCCDError(f"{kept} holds nothing: mmccd_find_best_configuration has changed nothing here.")
    entries = read_record(dict[str, KeptFile], kept / MANIFEST)
    changed = []
    for path, owner in _deciding_files(results, models):
        name = path.relative_to(results).as_posix()
        entry = entries.get(name)
        if entry is None:
            continue
        if entry.weights != _state(owner):
            logger.warning("%s stays: the fold was trained since.", path)
        elif entry.there:
            with atomic_path(path) as temporary:
                shutil.copyfile(kept / name, temporary)
            changed.append(name)
        elif path.is_file():
            path.unlink()
            changed.append(name)
    return changed


def _deciding_files(results: Path, models: Sequence[ModelFolder]) -> list[tuple[Path, Path | None]]:
    """Return the files, and the checkpoint that each belongs to."""
    found: list[tuple[Path, Path | None]] = [(results / BEST_FILE, None)]
    for model in models:
        folder = results / model.path.resolve().name
        found.append((folder / INFERENCE_FILE, None))
        for fold in model.folds():
            place = folder / model.fold(fold).name
            found.append((place / CALIBRATION_FILE, place / model.weights_file(fold).name))
    return found


def _state(checkpoint: Path | None) -> tuple[int, int] | None:
    if checkpoint is None:
        return None
    state = checkpoint.stat()
    return state.st_size, state.st_mtime_ns
