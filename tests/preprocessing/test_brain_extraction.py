"""Brain extraction: on simulated heads, on what is no head, and the choice among backends."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.io import read_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.head import mask_on, with_simulated_head
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps
from mmccd_auto.preprocessing.brain_extraction import BrainExtraction, backend_names, extract, extract_brain
from mmccd_auto.preprocessing.brain_extraction.interface import Backend
from mmccd_auto.preprocessing.brain_extraction.plausibility import implausible

LEAST_DICE = 0.9
PROGRAM = """
import sys
import SimpleITK as sitk
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
sitk.WriteImage(sitk.ReadImage(options["-i"]) > 50, options["-m"])
"""
CUBE = Geometry((60, 60, 60), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


@pytest.fixture(scope="module")
def stripped() -> dict[str, Volume]:
    scans = simulate_subject(load_tissue_maps(3), Acquisition(6.0, tilt=8.0), (), np.random.default_rng(5)).scans
    # A brain that touches the lowest slice would stay without a neck.
    return {name: Volume.from_image(sitk.ConstantPad(scan.to_image(), (0, 0, 1), (0, 0, 0))) for name, scan in scans.items()}


@pytest.fixture(scope="module")
def heads(stripped) -> dict[str, tuple[Volume, np.ndarray]]:
    """Head and brain by modality."""
    found = {}
    for seed, (modality, volume) in enumerate(stripped.items()):
        brain = volume.array > 0
        head = with_simulated_head(volume, brain, modality, np.random.default_rng(seed))
        found[modality] = head, mask_on(brain, volume.geometry, head.geometry)
    return found


@pytest.fixture(scope="module")
def found(heads) -> dict[str, BrainExtraction]:
    """What the built-in backend makes of each head."""
    return {modality: extract_brain(head, modality, "template") for modality, (head, _) in heads.items()}


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["FLAIR", "T1", "T2"])
def test_the_brain_in_thick_oblique_slices_is_found(heads, found, modality) -> None:
    assert found[modality].backend == "template"
    assert found[modality].mask.dtype == bool
    assert dice(found[modality].mask, heads[modality][1]) > LEAST_DICE


def test_storage_does_not_matter_and_the_result_is_always_the_same(heads, found) -> None:
    head, _ = heads["FLAIR"]
    turned = Volume.from_image(sitk.DICOMOrient(head.to_image(), "PIR"))
    expected = Volume.from_image(sitk.DICOMOrient(Volume(found["FLAIR"].mask, head.geometry).to_image(), "PIR")).array > 0
    assert np.array_equal(extract_brain(turned, "FLAIR", "template").mask, expected)


def test_whole_numbers_below_zero_do_not_matter(heads, found) -> None:
    head, _ = heads["T2"]
    shifted = Volume(np.rint(head.array - 500).astype(np.int16), head.geometry)
    assert dice(found["T2"].mask, extract_brain(shifted, None, "template").mask) > 0.99


def test_a_stripped_scan_keeps_its_brain(stripped) -> None:
    volume = stripped["T2"]
    found = extract_brain(volume, "T2", "template")
    assert found.backend == "already stripped"
    assert found.warning == ""
    assert dice(found.mask, volume.array > 0) > 0.99


def test_noise_and_constants_are_no_heads() -> None:
    noise = np.random.default_rng(0).normal(100, 10, (60, 60, 60)).astype(np.float32)
    with pytest.raises(MMCCDError, match=r"scan 7 shows no brain"):
        extract_brain(Volume(noise, CUBE), "T1", "template", "scan 7")
    with pytest.raises(MMCCDError, match="one constant value"):
        extract_brain(Volume(np.full((60, 60, 60), 7, np.int16), CUBE))
    with pytest.raises(MMCCDError, match="not finite"):
        extract_brain(Volume(np.full((60, 60, 60), np.nan, np.float32), CUBE))


class Fake(Backend):
    """Gives a prepared answer."""

    def __init__(self, name: str, answer: np.ndarray | str, reason: str = "", modalities: tuple[str, ...] | None = None):
        self.name, self.answer, self.reason, self.modalities = name, answer, reason, modalities

    def available(self) -> str:
        return self.reason

    def extract(self, volume: Volume, modality: str | None) -> np.ndarray:
        if isinstance(self.answer, str):
            raise MMCCDError(self.answer)
        return self.answer


def ball(millilitres: float) -> np.ndarray:
    z, y, x = np.ogrid[:60, :60, :60]
    radius = (1000 * millilitres * 3 / (4 * np.pi)) ** (1 / 3) / 3
    return (z - 30) ** 2 + (y - 30) ** 2 + (x - 30) ** 2 <= radius**2


def noise_scan() -> Volume:
    """A bright ball in faint noise."""
    noise = np.random.default_rng(0).normal(size=(60, 60, 60))
    return Volume((100 * ball(1300) + noise).astype(np.float32), CUBE)


def test_auto_takes_the_first_that_works(monkeypatch) -> None:
    backends = (
        Fake("absent", ball(1200), reason="is not installed"),
        Fake("t1-only", ball(1300), modalities=("T1",)),
        Fake("broken", "broken failed (no memory)."),
        Fake("too-small", ball(100)),
        Fake("good", ball(1400)),
    )
    monkeypatch.setattr(extract, "BACKENDS", backends)
    assert extract_brain(noise_scan(), "T1").backend == "t1-only"
    found = extract_brain(noise_scan(), "FLAIR")
    assert found.backend == "good"
    assert "no memory" in found.warning
    assert backend_names() == ("auto", "absent", "t1-only", "broken", "too-small", "good")


def test_a_named_backend_has_to_do(monkeypatch) -> None:
    backends = (
        Fake("absent", ball(1200), reason="is not installed: pip install absent"),
        Fake("t1-only", ball(9), "", ("T1",)),
    )
    monkeypatch.setattr(extract, "BACKENDS", backends)
    with pytest.raises(MMCCDError, match=r"^absent is not installed: pip install absent\.$"):
        extract_brain(noise_scan(), "T1", "absent")
    with pytest.raises(MMCCDError, match="works on T1 only"):
        extract_brain(noise_scan(), "FLAIR", "t1-only")
    with pytest.raises(MMCCDError, match="choose one of auto, absent, t1-only"):
        extract_brain(noise_scan(), "T1", "none-such")
    with pytest.raises(MMCCDError, match="9 ml instead of 600"):
        extract_brain(noise_scan(), "T1", "t1-only")


def test_absent_programs_say_what_to_install(monkeypatch) -> None:
    monkeypatch.setenv("PATH", "")
    for name in ("hd-bet", "synthstrip"):
        with pytest.raises(MMCCDError, match=f"^{name} is not installed: .*"):
            extract_brain(noise_scan(), "T1", name)


def test_a_program_gets_the_scan_and_its_mask_is_read(tmp_path, monkeypatch) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "synthstrip.1.pt").touch()
    monkeypatch.setenv("FREESURFER_HOME", str(tmp_path))
    program = tmp_path / "mri_synthstrip"
    program.write_text(f"#!{sys.executable}\n" + PROGRAM)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    scan = Volume(ball(1300) * 100.0 + np.random.default_rng(0).normal(size=(60, 60, 60)), CUBE)
    found = extract_brain(scan, "T2", "synthstrip")
    assert found.backend == "synthstrip"
    assert dice(found.mask, ball(1300)) > 0.99
    program.write_text(f"#!{sys.executable}\nraise SystemExit('no licence')\n")
    with pytest.raises(MMCCDError, match=r"synthstrip failed \(no licence\)"):
        extract_brain(scan, "T2", "synthstrip")


def test_what_can_be_a_brain() -> None:
    assert implausible(ball(1300), CUBE) == ""
    assert "ml instead of" in implausible(ball(500), CUBE)
    assert "empty" in implausible(ball(0.0) & False, CUBE)
    assert "falls apart" in implausible(ball(1300) & (np.arange(60) != 30), CUBE)
    tight = np.zeros((60, 60, 60), bool)
    tight[:, :, 10:50] = ball(1800)[:, :, 10:50]
    tight[:, 20:40, 20:40] = tight[20:40, :, 20:40] = True
    assert "faces" in implausible(tight, CUBE)
    slab = replace(CUBE, size=(60, 60, 10))
    assert implausible(ball(1300)[25:35], slab) == ""


@pytest.mark.real_data
@pytest.mark.parametrize("modality", ["T1", "FLAIR"])
def test_a_real_head(real_data, modality) -> None:
    scan = read_volume(real_data / "raw_nifti" / "MSlong12_study1" / f"{modality}.nii.gz")
    found = extract_brain(scan, modality, "template")
    assert 1200 < np.count_nonzero(found.mask) * scan.geometry.voxel_volume / 1000 < 1600
    assert found.warning == ""
