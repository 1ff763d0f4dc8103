"""A rim of what isn't brain is told from lesions at the cortex: simulated people whose truth is known, without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from mmccd_auto.cli.commands.predict import _command as predict_command
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json, save_json
from mmccd_auto.imaging.brain_mask import trimmed_brain
from mmccd_auto.imaging.io import write_volume
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.inference.held_out.calibrate import calibrate_model
from mmccd_auto.inference.maps.engine import SliceMaps
from mmccd_auto.inference.maps.slice_maps import CaseMaps
from mmccd_auto.inference.options import LoadOptions
from mmccd_auto.inference.prediction.predictor import Predictor
from mmccd_auto.inference.scores.calibration import Calibration, fit_calibration, load_calibration
from mmccd_auto.inference.scores.control import control_maps
from mmccd_auto.inference.scores.edge_profile import DISTANCE_EDGES_MM, EdgeFinding, HealthyEdge, find_rim, fit_healthy_edge
from mmccd_auto.inference.scores.masks import lesions_and_candidates
from mmccd_auto.inference.scores.score_units import scores_in_units
from mmccd_auto.phantom.label_maps.faults.extraction import SMOOTHNESS_MM, add_leftovers
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps
from mmccd_auto.plans.plan import ScorePlan
from mmccd_auto.preprocessing.preprocess_case import preprocess_case
from mmccd_auto.preprocessing.slices import write_case

CPU = torch.device("cpu")
PEOPLE, HEALTHY = 7, 5


def normalised(name: str, volume: Volume, brain: np.ndarray) -> CaseMaps:
    """The maps of a person whose reconstruction is 0 everywhere."""
    low, high = np.percentile(volume.array[brain], (2, 90))
    image = np.where(brain, 6 * (volume.array - low) / (high - low) - 3, 0).astype(np.float32)
    indices = np.flatnonzero(brain.any(axis=(1, 2)))
    image, brain = image[indices], brain[indices]
    maps = SliceMaps(image**2, image, np.zeros_like(image), brain.astype(np.float32), 0)
    return CaseMaps(name, name, tuple(indices.tolist()), volume.geometry.spacing[::-1], maps, brain)


class Ward:
    """Simulated healthy people, on some of whom the score without a network is calibrated."""

    def __init__(self) -> None:
        tissue, acquisition = load_tissue_maps(3), Acquisition(6.0)
        self.scans = [
            simulate_subject(tissue, acquisition, (), np.random.default_rng([11, number])).scans["FLAIR"]
            for number in range(PEOPLE)
        ]
        maps = [normalised(str(number), scan, scan.array > 0) for number, scan in enumerate(self.scans)]
        healthy = maps[:HEALTHY]
        self.constant = float(np.median(np.concatenate([one.maps.signed[one.brain] for one in healthy])))
        cases = [control_maps(one, self.constant) for one in healthy]
        self.calibration: Calibration = fit_calibration(cases, ScorePlan(), {}, "", {})
        self.edge: HealthyEdge = fit_healthy_edge(cases, [self.score(one) for one in cases])

    def score(self, case: CaseMaps) -> np.ndarray:
        return scores_in_units(case, self.calibration)["combined"]

    def find(self, volume: Volume, brain: np.ndarray | None = None) -> EdgeFinding:
        case = control_maps(normalised("x", volume, volume.array > 0 if brain is None else brain), self.constant)
        return find_rim(self.score(case), case.brain, case.spacing, [self.edge])


@pytest.fixture(scope="module")
def ward() -> Ward:
    return Ward()


def depth_mm(volume: Volume) -> np.ndarray:
    """Distance from the brain's edge, mm; 0 outside."""
    inside = np.pad(volume.array > 0, 1)
    return ndimage.distance_transform_edt(inside, sampling=volume.geometry.spacing[::-1])[1:-1, 1:-1, 1:-1]


def with_leftover(volume: Volume, lowest: float = 0.35) -> Volume:
    """A shell of 3 mm around the upper part of the brain, twice as bright as it: fat and skull that an extraction left."""
    brain = volume.array > 0
    outside = ndimage.distance_transform_edt(~brain, sampling=volume.geometry.spacing[::-1])
    slices = np.flatnonzero(brain.any(axis=(1, 2)))
    upper = np.arange(len(brain)) >= slices[0] + lowest * (slices[-1] - slices[0])
    shell = (outside > 0) & (outside <= 3.5) & upper[:, None, None]
    return Volume(np.where(shell, 2 * np.median(volume.array[brain]), volume.array), volume.geometry)


def with_coil(volume: Volume) -> Volume:
    """Brighter towards the surface, by a factor of 2.5 that falls to a third of its excess within 3 mm."""
    gain = 1 + 1.5 * np.exp(-depth_mm(volume) / 3)
    return Volume(np.where(volume.array > 0, volume.array * gain, 0), volume.geometry)


def with_lesion(volume: Volume, radius_mm: float, deepest_mm: float, seed: int) -> tuple[Volume, np.ndarray]:
    """A lesion that touches the cortex, 1.9 times as bright as the brain; and where it is."""
    random = np.random.default_rng(seed)
    depth, spacing = depth_mm(volume), volume.geometry.spacing[::-1]
    slices = np.flatnonzero((depth > 0).any(axis=(1, 2)))
    middle = (np.arange(len(depth)) > slices[len(slices) // 3]) & (np.arange(len(depth)) < slices[-len(slices) // 5])
    places = np.argwhere((depth > 0) & (depth < 7) & middle[:, None, None])
    centre = places[random.integers(len(places))]
    away = np.linalg.norm((np.indices(depth.shape).transpose(1, 2, 3, 0) - centre) * spacing, axis=-1)
    lesion = (depth > 0) & (depth < deepest_mm) & (away < radius_mm)
    bright = 1.9 * np.median(volume.array[depth > 0]) * random.normal(1, 0.05, depth.shape)
    return Volume(np.where(lesion, bright, volume.array), volume.geometry), lesion


def test_healthy_people_are_not_warned_of(ward: Ward) -> None:
    for scan in ward.scans:
        finding = ward.find(scan)
        assert not finding.is_rim
        assert finding.warning == ""


@pytest.mark.parametrize("artefact", [with_leftover, with_coil])
def test_a_rim_is_warned_of_in_plain_words(ward: Ward, artefact) -> None:
    for scan in ward.scans[HEALTHY:]:
        finding = ward.find(artefact(scan))
        assert finding.is_rim
        assert finding.rim > finding.usual_rim
        assert finding.profile.score_by_distance[1] > 2 * finding.profile.score_by_distance[-1]
        assert "rather skull or dura that was left, or the brightness of a coil, than a lesion" in finding.warning
        assert f"{100 * finding.profile.around:.0f} % of its circumference" in finding.warning


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_a_simulated_extraction_leaves_in_many_places_is_a_rim_and_nothing_is_where_it_leaves_none(
    ward: Ward, seed: int
) -> None:
    scan = ward.scans[HEALTHY + seed % 2]
    brain, spacing = scan.array > 0, np.array(scan.geometry.spacing[::-1])
    near = ndimage.gaussian_filter(brain.astype(np.float32), SMOOTHNESS_MM / spacing)
    for strength, is_rim in ((0.0, False), (15.0, True)):
        kept = add_leftovers(brain, near, 3.0, np.random.default_rng(seed), strength)
        values = np.where(kept & ~brain, 2 * np.median(scan.array[brain]), scan.array)
        assert ward.find(Volume(values, scan.geometry)).is_rim == is_rim


@pytest.mark.parametrize(("radius_mm", "deepest_mm"), [(12, 99), (25, 99), (45, 99), (30, 7), (40, 7)])
def test_a_lesion_at_the_cortex_is_no_rim_however_large_and_stays_marked(
    ward: Ward, radius_mm: float, deepest_mm: float
) -> None:
    """Deep ones and flat ones, which lie on the cortex as a rim does."""
    for seed, scan in enumerate(ward.scans[HEALTHY:]):
        volume, lesion = with_lesion(scan, radius_mm, deepest_mm, seed)
        assert not ward.find(volume).is_rim
        case = control_maps(normalised("x", volume, volume.array > 0), ward.constant)
        voxel = float(np.prod(case.spacing))
        threshold = ward.calibration.threshold(0.02)
        marked, _ = lesions_and_candidates(ward.score(case), case.brain, threshold, 0.0, voxel)
        inside = lesion[list(case.indices)]
        assert np.count_nonzero(marked & inside) > 0.3 * np.count_nonzero(inside)


def test_a_rim_beside_a_lesion_is_warned_of(ward: Ward) -> None:
    volume, _ = with_lesion(ward.scans[HEALTHY], 25, 99, 0)
    assert ward.find(with_leftover(volume)).is_rim


def test_trimming_leaves_the_rim_out(ward: Ward) -> None:
    scan = with_leftover(ward.scans[HEALTHY])
    brain = trimmed_brain(scan.array > 0, scan.geometry.spacing, 4.0, "scan")
    assert ward.find(scan).is_rim
    assert not ward.find(scan, brain).is_rim


def test_several_folds_decide_together_and_profiles_are_told_by_distance(ward: Ward) -> None:
    stricter = replace(ward.edge, people=(replace(ward.edge.people[0], around=1.0),))
    case = control_maps(normalised("x", (scan := with_leftover(ward.scans[-1])), scan.array > 0), ward.constant)
    assert find_rim(ward.score(case), case.brain, case.spacing, [ward.edge, ward.edge]).is_rim
    assert not find_rim(ward.score(case), case.brain, case.spacing, [ward.edge, stricter]).is_rim
    assert len(ward.edge.people) == HEALTHY
    assert all(len(one.score_by_distance) == len(DISTANCE_EDGES_MM) + 1 for one in ward.edge.people)


def person(number: int) -> Volume:
    """Coarse, to be quick."""
    acquisition, random = Acquisition(8.0), np.random.default_rng([12, number])
    return simulate_subject(load_tissue_maps(4), acquisition, (), random).scans["FLAIR"]


def with_bright_shell(volume: Volume) -> Volume:
    """A voxel of the brain's edge, in the upper part, two times as bright as the brain."""
    depth = depth_mm(volume)
    upper = np.arange(len(depth)) > 0.45 * len(depth)
    shell = (depth > 0) & (depth <= 4.0) & upper[:, None, None]
    return Volume(np.where(shell, 2 * np.median(volume.array[depth > 0]), volume.array), volume.geometry)


@pytest.fixture
def model(model_folder, quick_plan, tmp_path: Path) -> Path:
    """Tiny random networks, calibrated on two people whom they held out."""
    folder = tmp_path / "preprocessed" / quick_plan.dataset_name / quick_plan.plans_name
    for number, case in enumerate("abc"):
        scan = person(number)
        write_case(folder, preprocess_case(case, {"FLAIR": scan, "T1": scan}, quick_plan))
    save_json([{"train": ["c"], "val": ["a", "b"]}], folder.parent / "splits_final.json")
    path = model_folder(plan=quick_plan)
    calibrate_model(path, folder, device=CPU, max_slices=16, fits=1)
    return path


def test_the_warning_reaches_the_screen_the_record_and_the_page(
    model: Path, tmp_path: Path, capsys, caplog: pytest.LogCaptureFixture
) -> None:
    for name, volume in (("plain", person(3)), ("rim", with_bright_shell(person(3)))):
        write_volume(volume.array, volume.geometry, tmp_path / "scans" / f"{name}_0000.nii.gz")
    output = tmp_path / "out"
    predict_command(["-i", str(tmp_path / "scans"), "-o", str(output), "-m", str(model), "-device", "cpu"])
    told = "than a lesion, and what is marked there is doubtful"
    for name, warned in (("plain", False), ("rim", True)):
        record = load_json(output / f"{name}.json")
        assert any(told in text for text in record["warnings"]) == record["edge"]["rim"] == warned, record["edge"]
    assert told in "".join(capsys.readouterr()) + caplog.text
    assert told in (output / "report.html").read_text(encoding="utf-8")
    trimmed = ["--trim_edge", "5", "-o", str(tmp_path / "trimmed")]
    predict_command(["-i", str(tmp_path / "scans"), *trimmed, "-m", str(model), "-device", "cpu"])
    record = load_json(tmp_path / "trimmed" / "rim.json")
    assert record["trim_edge_mm"] == 5
    assert not record["edge"]["rim"]
    assert record["brain_ml"] < load_json(output / "rim.json")["brain_ml"]


@pytest.mark.parametrize("trim", [0.0, 5.0])
def test_a_mask_of_another_grid_is_refused_trimmed_or_not(model: Path, trim: float) -> None:
    scan = person(3)
    moved = replace(scan.geometry, origin=tuple(place + 60.0 for place in scan.geometry.origin))
    mask = Volume((scan.array > 0).astype(np.uint8), moved)
    predictor = Predictor.from_model_folder(model, LoadOptions(trim_edge_mm=trim))
    with pytest.raises(MMCCDError, match="does not lie on the grid"):
        predictor.predict_volume(scan, brain_mask=mask)
    predictor.predict_volume(scan, brain_mask=replace(mask, geometry=scan.geometry))


def test_a_calibration_of_an_earlier_version_goes_on_without_the_check(model: Path) -> None:
    scan = with_bright_shell(person(3))
    assert Predictor.from_model_folder(model).predict_volume(scan).edge.is_rim
    path = model / "fold_0" / "calibration.json"
    content = load_json(path)
    assert len(content["edge"]["people"]) == len(content["subjects"])
    del content["edge"]
    save_json(content, path)
    assert load_calibration(path).edge is None
    prediction = Predictor.from_model_folder(model).predict_volume(scan)
    assert prediction.edge is None
    assert not any("outermost" in text for text in prediction.warnings)


def test_nothing_left_of_a_brain_is_an_error() -> None:
    with pytest.raises(MMCCDError, match="scan: without 20 mm at its edge nothing is left of the brain: trim less"):
        trimmed_brain(np.ones((5, 5, 5), dtype=bool), (2.0, 2.0, 2.0), 20.0, "scan")
