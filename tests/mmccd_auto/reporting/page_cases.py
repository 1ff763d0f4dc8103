"""Small cases for tests of the page: a scan with an ellipsoid brain and two lesions, in any orientation."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmccd_auto.imaging.volume import Geometry
from mmccd_auto.reporting.page.assemble import CaseContent, ListRow, PageInfo, Section, write_report
from mmccd_auto.reporting.page.part import CaseArrays, CasePart, ImageNumbers, Marking, SliderStep, make_part, write_part

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def sagittal_oblique() -> tuple[float, ...]:
    """Direction cosines of a sagittal series that is turned by 15 and 9 degrees; the slices run from left to right."""
    stored = np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
    a, b = np.deg2rad((15.0, 9.0))
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return tuple((about_z @ about_x @ stored).ravel().tolist())


def small_geometry(size=(44, 36, 30), spacing=(2.0, 2.2, 3.0), origin=(-40.0, -30.0, 12.0), direction=AXIAL) -> Geometry:
    return Geometry(size, spacing, origin, tuple(direction))


def to_lps(geometry: Geometry, index) -> np.ndarray:
    """Voxel (i, j, k) to LPS mm."""
    return np.reshape(geometry.direction, (3, 3)) @ (np.asarray(index) * geometry.spacing) + geometry.origin


def small_arrays(geometry: Geometry, seed: int = 0) -> tuple[CaseArrays, list[tuple[int, int, int]]]:
    """Arrays, and the voxels (i, j, k) of the centres of the two lesions, the larger first."""
    shape = tuple(reversed(geometry.size))
    place = np.indices(shape).astype(float)[::-1]
    middle = (np.array(geometry.size) - 1) / 2
    distance = np.sqrt(sum(((place[axis] - middle[axis]) / (0.42 * geometry.size[axis])) ** 2 for axis in range(3)))
    brain = distance < 1
    rng = np.random.default_rng(seed)
    scan = (np.where(distance < 1.15, 300.0, 5.0) + rng.normal(0, 12, shape)).astype(np.float32)
    score = np.where(brain, np.abs(rng.normal(0, 0.3, shape)), 0).astype(np.float32)
    mask, centres = np.zeros(shape, dtype=np.uint8), []
    for share, radius in (((0.36, 0.45, 0.6), 9.0), ((0.68, 0.6, 0.4), 6.0)):
        centre = [round(part * (n - 1)) for part, n in zip(share, geometry.size, strict=True)]
        mm = np.sqrt(sum(((place[axis] - centre[axis]) * geometry.spacing[axis]) ** 2 for axis in range(3)))
        score = np.maximum(score, np.where(brain, 4.0 * np.exp(-((mm / radius) ** 2)), 0).astype(np.float32))
        centres.append(tuple(centre))
    mask[(score > 1.5) & brain] = 1
    return CaseArrays(scan, score, brain, mask, np.zeros_like(mask), np.zeros(shape, np.float32), score * 0.2), centres


def small_marking() -> Marking:
    rates = np.geomspace(2e-4, 0.05, 12)
    steps = tuple(SliderStep(float(rate), float(0.35 * np.log(1 / rate) - 0.35)) for rate in rates)
    used = int(np.argmin([abs(step.threshold - 1.5) for step in steps]))
    return Marking(1.5, 60.0, steps, used)


def small_part(geometry: Geometry | None = None, seed: int = 0, numbers: bool = True) -> CasePart:
    geometry = geometry or small_geometry()
    shown = ImageNumbers(2, tuple(range(101, 101 + geometry.size[2]))) if numbers else None
    return make_part(small_arrays(geometry, seed)[0], geometry, small_marking(), shown, "" if numbers else "no DICOM")


def facts(geometry: Geometry, centres, warnings=()) -> dict:
    lesions = [
        {
            "number": number,
            "volume_ml": 3.2 / number,
            "longest_diameter_mm": 21.0 / number,
            "peak_score": 4.0,
            "mean_score": 2.4,
            "centre_lps_mm": to_lps(geometry, centre).tolist(),
            "centre_voxel": list(centre),
            "side": "left",
            "place": "deep white matter",
            "mni_mm": None,
        }
        for number, centre in enumerate(centres, start=1)
    ]
    return {
        "finding_in_words": "2 lesions (4.80 ml)",
        "warnings": list(warnings),
        "brain_ml": 1200.0,
        "brain_found_by": "template",
        "anomalous_ml": 4.8,
        "lesions": 2,
        "candidates": 0,
        "candidates_ml": 0.0,
        "case_score": 3.1,
        "healthy_percentile": None,
        "healthy_percentile_note": "too few healthy people (2) to say",
        "healthy_people": 2,
        "max_score": 4.0,
        "input_modality": "FLAIR",
        "threshold": 1.5,
        "threshold_source": "calibrated",
        "least_lesion_mm3": 60.0,
        "seconds": 1.0,
        "lesion_list": lesions,
    }


def small_report(output: Path, names: list[str], geometry: Geometry | None = None, extra: tuple[ListRow, ...] = ()) -> Path:
    """Write a report of small cases that are called ``names``."""
    geometry = geometry or small_geometry()
    _, centres = small_arrays(geometry)
    output.mkdir(parents=True, exist_ok=True)
    parts, rows = {}, []
    shared = small_part(geometry)
    for number, name in enumerate(names):
        parts[name] = output / f"part_{number}_page.json.gz"
        write_part(shared, parts[name])
        warnings = ("the scan is <b>odd</b>",) if number == 0 else ()
        row = ListRow(name, "done", "", warnings, "lesions", 2, 0, 4.8, 0.0, 3.2, 9.0 - 0.1 * number, None, 4.0)
        rows.append(row)
    info = PageInfo("Report", "small cases", (Section("Model", (("Name", "</script><b>x"),)),))

    def content_of(row: ListRow) -> CaseContent | None:
        return CaseContent(facts(geometry, centres, row.warnings), parts[row.case]) if row.case in parts else None

    return write_report(output, info, [*rows, *extra], content_of)
