"""The volume of one series, made by dcm2niix and checked against the headers."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmccd_auto.core.disk.temporary_space import check_room, describe_full, is_full
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.records import JsonObject, dataclass_from_json
from mmccd_auto.core.strict_json import parse_json, read_json_bytes
from mmccd_auto.dicom.converter_files import UNCOMPRESSED, put_files, syntax_name
from mmccd_auto.dicom.records import SequenceFacts, Series, SliceGrid, sentence
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Geometry, Volume

logger = logging.getLogger(__name__)

# -m y: the headers were checked to be one stack, so that differing acquisition numbers are no reason to take it apart.
# -x i: the slices stay as they were scanned. -g i: a settings file in the user's home must not change the result.
_OPTIONS = (
    *("-b", "y", "-ba", "y", "-z", "n", "-f", "series", "-i", "n", "-m", "y"),
    *("-x", "i", "-w", "1", "-d", "0", "-g", "i"),
)
# What dcm2niix adds to the name of what isn't the measured magnitude image on its own grid.
_OTHER_IMAGES = ("_Eq", "_Tilt", "_ph", "_real", "_imaginary", "_ROI", "_ADC")
_JSON_FACTS = {
    "echo_time": ("EchoTime", 1000.0),
    "repetition_time": ("RepetitionTime", 1000.0),
    "inversion_time": ("InversionTime", 1000.0),
    "flip_angle": ("FlipAngle", 1.0),
    "magnetic_field_strength": ("MagneticFieldStrength", 1.0),
    "slice_thickness": ("SliceThickness", 1.0),
}


@dataclass(frozen=True)
class ConvertedSeries:
    """A series as a volume.

    Attributes
    ----------
    volume : float32, on the grid of the scan
    facts : those of the series, completed by what dcm2niix reads from private elements
    files : what the volume was made of
    """

    volume: Volume = field(repr=False)
    facts: SequenceFacts
    files: tuple[Path, ...] = field(repr=False)


def convert_series(series: Series, workspace: str | Path, time_limit: float = 300.0) -> ConvertedSeries:
    """Make the volume of one series and check that it lies where the headers say, with every slice.

    Parameters
    ----------
    series : one without a problem
    workspace : a folder for temporary files, which are removed at the end
    time_limit : s, after which dcm2niix is killed

    Raises
    ------
    MMCCDError
        If the series has a problem, dcm2niix is missing, fails or takes too long, or its volume isn't what the headers say.
    """
    if series.problem is not None or series.grid is None:
        raise MMCCDError(series.problem or f"{sentence(series.label)} forms no regular grid: choose another series.")
    program = find_dcm2niix()
    label, needed = sentence(series.label), _least_bytes(series.grid)
    check_room(workspace, needed, label)
    try:
        volume, facts = _convert(program, series, Path(workspace), time_limit)
    except OSError as error:
        if is_full(workspace, error):
            raise MMCCDError(describe_full(label)) from None
        # Its own text holds a path, which may name the patient.
        reason = error.strerror or "input/output error"
        raise MMCCDError(
            f"{label} could not be copied to be converted ({reason}): check the disk and the permissions."
        ) from None
    except MMCCDError:
        if is_full(workspace, needed=needed):
            raise MMCCDError(describe_full(label)) from None
        raise
    _check(volume.geometry, series.grid, series)
    return ConvertedSeries(volume, facts, series.files)


def _convert(program: Path, series: Series, workspace: Path, time_limit: float) -> tuple[Volume, SequenceFacts]:
    """Let dcm2niix make the volume in a folder of its own below ``workspace``, which is removed at once."""
    workspace.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="dicom-", dir=workspace) as folder:
        inputs, outputs = Path(folder, "in"), Path(folder, "out")
        inputs.mkdir()
        outputs.mkdir()
        put_files(series, inputs)
        message = _run([str(program), *_OPTIONS, "-o", str(outputs), str(inputs)], time_limit, series)
        path = _one_volume(outputs, message, series)
        return _read(path, series), _completed(series.facts, path.with_suffix(".json"))


def _least_bytes(grid: SliceGrid) -> int:
    """Return what the converted volume takes at least, with 16 bits a voxel."""
    return 2 * math.prod(grid.size)


def find_dcm2niix() -> Path:
    """Find the dcm2niix program: the one that the package of this name brings, else one on the PATH.

    Raises
    ------
    MMCCDError
        If there is none.
    """
    try:
        import dcm2niix
    except ImportError:
        packaged = None
    else:
        packaged = Path(dcm2niix.bin)
        packaged = next((path for path in (packaged, packaged.with_suffix(".exe")) if path.is_file()), None)
    found = packaged or shutil.which("dcm2niix")
    if found is None:
        raise MMCCDError("dcm2niix, which reads DICOM, is not installed: run pip install dcm2niix.")
    return Path(found)


def _run(command: list[str], time_limit: float, series: Series) -> str:
    """Run dcm2niix and return what it said, which may name the patient and must not be shown."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=os.name != "nt",
        )
    except OSError as error:
        raise MMCCDError(
            f"dcm2niix can't be started ({error.strerror or 'unknown reason'}): install it again with pip install dcm2niix."
        ) from error
    try:
        output, _ = process.communicate(timeout=time_limit)
    except subprocess.TimeoutExpired as error:
        raise MMCCDError(
            f"{sentence(series.label)} was not converted within {time_limit:g} s: export it again or choose another series."
        ) from error
    finally:
        _kill(process)
    return output.decode("utf-8", errors="replace")


def _kill(process: subprocess.Popen) -> None:
    """End a process that still runs, with its children."""
    if process.poll() is not None:
        return
    if os.name == "nt":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _one_volume(folder: Path, message: str, series: Series) -> Path:
    """Return the path of the one volume that was made."""
    found = sorted(folder.glob("*.nii"))
    if not found:
        raise MMCCDError(_why_nothing(message, series))
    plain = [path for path in found if not any(mark in path.stem.removeprefix("series") for mark in _OTHER_IMAGES)]
    if len(plain) != 1:
        # A series of phase images alone is one volume, too, but not one with a contrast that is looked for.
        what = f"{len(found)} volumes" if len(found) > 1 else "no magnitude image"
        raise MMCCDError(f"{sentence(series.label)} gives {what} instead of one volume: choose another series.")
    return plain[0]


def _why_nothing(message: str, series: Series) -> str:
    """Return a sentence for what dcm2niix said."""
    label, low = sentence(series.label), message.lower()
    compressed = series.facts.transfer_syntax not in UNCOMPRESSED
    if compressed and any(word in low for word in ("transfer syntax", "decode", "decompress", "jpeg", "compressed")):
        return (
            f"{label} is compressed in a way that can't be read here ({syntax_name(series)}): export it without compression."
        )
    return f"{label} can't be read by dcm2niix, its files may be damaged: export it again or choose another series."


def _read(path: Path, series: Series) -> Volume:
    try:
        return read_volume(path)
    except MMCCDError as error:
        # The message names the temporary file, which the user has never seen.
        reason = str(error).removeprefix(str(path)).strip()
        raise MMCCDError(f"{sentence(series.label)} gives a volume that {reason}") from error


def _check(geometry: Geometry, grid: SliceGrid, series: Series) -> None:
    """Compare the volume's grid with the one that the headers give, whatever the order of its axes.

    Raises
    ------
    MMCCDError
        If slices are missing or a corner lies further off than half of the smallest voxel edge.
    """
    label = sentence(series.label)
    if sorted(geometry.size) != sorted(grid.size):
        raise MMCCDError(
            f"{label} has {grid.size[2]} slices of {grid.size[0]} x {grid.size[1]} voxels, but its volume came out as "
            f"{' x '.join(map(str, geometry.size))}: choose another series."
        )
    distances = np.linalg.norm(geometry.corners()[:, None] - grid.corners()[None], axis=2)
    farthest = max(distances.min(axis=0).max(), distances.min(axis=1).max())
    if farthest > 0.5 * min(grid.spacing):
        raise MMCCDError(f"{label} came out {farthest:.1f} mm away from where its headers place it: choose another series.")


def _completed(facts: SequenceFacts, path: Path) -> SequenceFacts:
    """Fill in the numbers that the headers lack from the file beside the volume (its texts may name the patient)."""
    content = _side_file(path)
    found: dict[str, Any] = {}
    for name, (key, factor) in _JSON_FACTS.items():
        value = content.get(key)
        if getattr(facts, name) is None and isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = float(value) * factor
    return replace(facts, **found)


def _side_file(path: Path) -> dict[str, Any]:
    try:
        return dataclass_from_json(JsonObject, parse_json(read_json_bytes(path), str(path), errors="replace"), str(path))
    except MMCCDError:
        # The file is a convenience: everything needed stands in the headers.
        return {}
