"""Brain extraction by programs that somebody else made, where they are installed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmccd_auto.core.disk.workspaces import workspace
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.orientation import from_canonical, to_canonical
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.preprocessing.brain_extraction.interface import Backend

TIME_LIMIT_SECONDS = 1800
THRESHOLD = 0.5


class HdBet(Backend):
    """HD-BET (Isensee et al., Hum. Brain Mapp. 40, 2019), version 2."""

    name = "hd-bet"

    def available(self) -> str:
        """See :class:`Backend`."""
        if shutil.which("hd-bet") is None:
            return "is not installed: pip install hd-bet, and run it once so that it fetches its weights"
        weights = self._weights()
        # This is the file by which HD-BET itself decides whether to download.
        if not (weights / "fold_all" / "checkpoint_final.pth").is_file():
            return f"has no weights in {weights}: run hd-bet once by hand, so that it fetches them"
        return ""

    def extract(self, volume: Volume, modality: str | None) -> np.ndarray:
        """See :class:`Backend`."""
        device = "cuda" if _has_gpu() else "cpu"
        options = ["--save_bet_mask", "--no_bet_image", "-device", device]
        options += [] if device == "cuda" else ["--disable_tta"]
        return _by_program(
            self.name,
            volume,
            lambda scan, folder: ["hd-bet", "-i", scan, "-o", str(folder / "out.nii.gz"), *options],
            "out_bet.nii.gz",
        )

    @staticmethod
    def _weights() -> Path:
        return Path.home() / "hd-bet_params" / "release_2.0.0"


class SynthStrip(Backend):
    """SynthStrip (Hoopes et al., NeuroImage 260, 2022), as FreeSurfer ships it."""

    name = "synthstrip"

    def available(self) -> str:
        """See :class:`Backend`."""
        if shutil.which("mri_synthstrip") is None:
            return "is not installed: install FreeSurfer 7.3 or newer and set it up in this shell"
        home = os.environ.get("FREESURFER_HOME", "")
        if not home or not list(Path(home, "models").glob("synthstrip.*.pt")):
            return "has no weights: set FREESURFER_HOME to a complete FreeSurfer"
        return ""

    def extract(self, volume: Volume, modality: str | None) -> np.ndarray:
        """See :class:`Backend`."""
        return _by_program(
            self.name,
            volume,
            lambda scan, folder: ["mri_synthstrip", "-i", scan, "-m", str(folder / "mask.nii.gz")],
            "mask.nii.gz",
        )


class DeepBet(Backend):
    """deepbet (Fisch et al., Comput. Biol. Med. 179, 2024), trained on T1 scans; its weights come with the package."""

    name = "deepbet"
    modalities = ("T1",)

    def available(self) -> str:
        """See :class:`Backend`."""
        specification = importlib.util.find_spec("deepbet")
        if specification is None or specification.origin is None:
            return "is not installed: pip install deepbet"
        models = Path(specification.origin).parents[1] / "data" / "models"
        if not all((models / name).is_file() for name in ("model.pt", "bbox_model.pt")):
            return "is installed without its weights: pip install --force-reinstall deepbet"
        return ""

    def extract(self, volume: Volume, modality: str | None) -> np.ndarray:
        """See :class:`Backend`."""
        try:
            network = importlib.import_module("deepbet.bet").BrainExtraction(no_gpu=not _has_gpu())
        except (ImportError, OSError, RuntimeError) as error:
            raise MMCCDError(f"{self.name} can't be loaded ({_last_line(error)}): install it again.") from error
        # It wants x to the right, y to anterior, z to superior, first axis x; canonical is LPS, [z, y, x].
        turned = to_canonical(volume)
        values = np.ascontiguousarray(turned.array.astype(np.float32)[:, ::-1, ::-1].transpose(2, 1, 0))
        try:
            found = network.postprocess(network.run_model(values) > THRESHOLD)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise MMCCDError(f"{self.name} failed ({_last_line(error)}).") from error
        mask = np.ascontiguousarray(np.asarray(found).transpose(2, 1, 0)[:, ::-1, ::-1]) > 0
        return from_canonical(Volume(mask, turned.geometry), volume.geometry).array


def _by_program(name: str, volume: Volume, command: Callable[[str, Path], list[str]], result: str) -> np.ndarray:
    """Run a program on a scan in a temporary folder and read the mask it writes.

    Parameters
    ----------
    command : from the scan's file and the folder to the arguments
    result : file name of the mask in the folder
    """
    with workspace("brain") as folder:
        scan = folder / "scan.nii.gz"
        write_volume(volume.array.astype(np.float32), volume.geometry, scan)
        try:
            # What such a program says may be in another encoding than this system's.
            subprocess.run(
                command(str(scan), folder),
                check=True,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIME_LIMIT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise MMCCDError(f"{name} took longer than {TIME_LIMIT_SECONDS // 60} minutes.") from error
        except subprocess.CalledProcessError as error:
            raise MMCCDError(f"{name} failed ({_last_line(error.stderr or error)}).") from error
        except OSError as error:
            raise MMCCDError(f"{name} could not be started ({_last_line(error)}).") from error
        if not (folder / result).is_file():
            raise MMCCDError(f"{name} wrote no mask.")
        mask = read_volume(folder / result)
    if mask.geometry.differences(volume.geometry):
        raise MMCCDError(f"{name} gave a mask on another grid than the scan's.")
    return mask.array > THRESHOLD


def _has_gpu() -> bool:
    torch = sys.modules.get("torch") or importlib.import_module("torch")
    return bool(torch.cuda.is_available())


def _last_line(error: object) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].rstrip(".") if lines else "it gave no reason"
