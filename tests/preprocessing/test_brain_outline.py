"""Outlines that lie where no brain ends are noticed, sought again, and told."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.phantom.head import mask_on, with_simulated_head
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps
from mmccd_auto.preprocessing import align_modalities as preparing
from mmccd_auto.preprocessing.align_modalities import prepare_case
from mmccd_auto.preprocessing.brain_extraction import BrainExtraction, extract, extract_brain
from mmccd_auto.preprocessing.brain_extraction.background import with_dark_background
from mmccd_auto.preprocessing.brain_extraction.interface import Backend
from mmccd_auto.preprocessing.brain_extraction.outline import doubt_outline


@pytest.fixture(scope="module")
def head() -> tuple[Volume, np.ndarray]:
    """A simulated T1 head and its brain."""
    scan = simulate_subject(load_tissue_maps(3), Acquisition(3.0), (), np.random.default_rng(5)).scans["T1"]
    scan = Volume.from_image(sitk.ConstantPad(scan.to_image(), (0, 0, 1), (0, 0, 0)))
    brain = scan.array > 0
    made = with_simulated_head(scan, brain, "T1", np.random.default_rng(0))
    return made, mask_on(brain, scan.geometry, made.geometry)


@pytest.fixture(scope="module")
def noisy(head) -> Volume:
    """The head in noise as bright as tissue, as MP2RAGE scans are."""
    scan, brain = head
    bright = float(np.percentile(scan.array[brain], 99))
    inside = ndimage.distance_transform_edt(~brain, sampling=scan.geometry.spacing[::-1]) < 14
    inside |= ndimage.binary_fill_holes(ndimage.binary_opening(scan.array > 0.2 * bright, iterations=2))
    noise = np.random.default_rng(1).uniform(0, 1.5 * bright, scan.array.shape)
    return Volume(np.where(inside, scan.array + 0.1 * bright, noise).astype(np.float32), scan.geometry)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


def moved(brain: np.ndarray, scan: Volume, millimetres: float) -> np.ndarray:
    """The brain's mask with its surface further out (above 0) or in."""
    spacing = scan.geometry.spacing[::-1]
    outside, inside = (ndimage.distance_transform_edt(side, sampling=spacing) for side in (~brain, brain))
    return outside - inside < millimetres


def test_the_right_outline_is_not_doubted(head) -> None:
    scan, brain = head
    assert doubt_outline(scan, brain).signs == {}


def test_an_outline_with_the_skull_inside_and_one_that_cuts_the_brain_are_doubted(head) -> None:
    scan, brain = head
    with_skull = doubt_outline(scan, moved(brain, scan, 9))
    assert "skull lies inside" in str(with_skull)
    cut = doubt_outline(scan, moved(brain, scan, -16))
    assert "little for a brain" in str(cut)
    assert cut.failed
    half = brain.copy()
    half[:, :, : half.shape[2] // 2] = False
    assert "left and right differ" in str(doubt_outline(scan, half))


def test_only_noise_as_bright_as_tissue_is_darkened(head, noisy) -> None:
    scan, brain = head
    assert with_dark_background(scan) is scan
    dark = with_dark_background(noisy)
    assert np.ptp(noisy.array[-4:, :4, :4]) > 100
    assert np.ptp(dark.array[-4:, :4, :4]) == 0
    assert (dark.array == noisy.array)[brain].mean() > 0.995


def test_the_brain_in_such_noise_is_found(head, noisy) -> None:
    found = extract_brain(noisy, "T1", "template")
    assert dice(found.mask, head[1]) > 0.88


class Several(Backend):
    """Gives prepared answers, one after the other."""

    name = "several"

    def __init__(self, *answers: np.ndarray) -> None:
        self.answers = answers
        self.asked = 0

    def available(self) -> str:
        return ""

    def extract(self, volume, modality):
        return self.answers[0]

    def tries(self, volume, modality):
        for answer in self.answers:
            self.asked += 1
            yield answer


def found_by(monkeypatch, scan: Volume, *answers: np.ndarray) -> tuple[BrainExtraction, int]:
    backend = Several(*answers)
    monkeypatch.setattr(extract, "BACKENDS", (backend,))
    return extract_brain(scan, "T1", "several", "scan 7"), backend.asked


def test_a_plausible_first_try_is_kept_and_others_are_not_made(head, monkeypatch) -> None:
    scan, brain = head
    found, asked = found_by(monkeypatch, scan, brain, moved(brain, scan, 3))
    assert asked == 1
    assert found.mask is brain
    assert found.warning == ""


def test_after_a_doubtful_try_the_most_plausible_one_is_taken(head, monkeypatch) -> None:
    scan, brain = head
    found, asked = found_by(monkeypatch, scan, moved(brain, scan, -16), moved(brain, scan, 9), brain)
    assert asked == 3
    assert found.mask is brain
    assert found.warning == ""


def test_where_all_tries_fail_the_scan_is_refused_with_the_reasons(head, monkeypatch) -> None:
    scan, brain = head
    half = brain & (np.arange(brain.shape[2]) > np.argwhere(brain)[:, 2].mean())
    with pytest.raises(MMCCDError, match=r"^scan 7 shows no brain .*several found what may be no brain \(.*left and right"):
        found_by(monkeypatch, scan, moved(brain, scan, -16), half)


def test_a_brain_that_is_not_found_in_the_reference_is_taken_from_another_scan(head, monkeypatch) -> None:
    scan, brain = head

    def only_in_t1(volume, modality, backend, name):
        if modality != "T1":
            raise MMCCDError(f"{name} shows no brain that could be found.")
        return BrainExtraction(brain, "template", 0.0, "")

    monkeypatch.setattr(preparing, "extract_brain", only_in_t1)
    volumes = {"FLAIR": Volume(scan.array * 2, scan.geometry), "T1": scan}
    prepared = prepare_case("p1", volumes, "FLAIR")
    assert dice(prepared.brain.mask, brain) > 0.98
    assert "that of the T1 was laid on it" in prepared.brain.warning
    with pytest.raises(MMCCDError, match="p1: FLAIR shows no brain"):
        prepare_case("p1", {"FLAIR": volumes["FLAIR"]}, "FLAIR")
