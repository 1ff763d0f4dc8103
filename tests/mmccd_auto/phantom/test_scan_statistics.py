"""The statistics by which simulated and real scans are compared tell what was put into a scan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from measure_simulated_scans import SIMULATED, people_of_dataset, print_table, simulated_people
from scan_statistics import FLUID, GREY, WHITE, CoarseScan, scan_statistics, tissues_of_t1
from scipy import ndimage

from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.phantom.label_maps.scanner import add_rician_noise

LEVELS = {FLUID: 0.3, GREY: 0.7, WHITE: 1.0}
SIZE, EDGE = (90, 90, 40), (2.0, 2.0, 4.0)
GEOMETRY = Geometry(SIZE, EDGE, (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def _head(noise: float = 0.02, shading: float = 0.0, blur: float = 0.0) -> tuple[CoarseScan, np.ndarray]:
    """A ball of white matter with a shell of grey matter and a chamber of fluid; and its distance from the middle, mm."""
    z, y, x = np.meshgrid(
        *((np.arange(size) - (size - 1) / 2) * edge for size, edge in zip(SIZE[::-1], EDGE[::-1], strict=True)),
        indexing="ij",
    )
    distance = np.sqrt(x**2 + y**2 + z**2)
    clean = np.select([distance < 15, distance < 55, distance < 72], [LEVELS[FLUID], LEVELS[WHITE], LEVELS[GREY]])
    clean = ndimage.gaussian_filter(clean, (0, blur / 2, blur / 2)) * np.exp(shading * x / 72)
    noisy = add_rician_noise(clean.astype(np.float32), np.random.default_rng(0), noise)
    return CoarseScan.of(Volume(1000 * noisy, GEOMETRY), distance < 72), distance


def test_contrast_and_fluid_are_measured() -> None:
    scan, _ = _head()
    found = scan_statistics(scan, tissues_of_t1(scan))
    assert found["grey / white"] == pytest.approx(0.7, abs=0.03)
    assert found["fluid / white"] == pytest.approx(0.3, abs=0.03)
    assert found["fluid in the depth"] == pytest.approx((15 / 72) ** 3, rel=0.2)
    assert found["bright rim"] == pytest.approx(0.7, abs=0.06)


def test_noise_shading_and_sharpness_follow_what_was_done() -> None:
    usual, noisy, shaded, blurred = (
        scan_statistics(scan, tissues_of_t1(scan))
        for scan, _ in (_head(), _head(noise=0.06), _head(shading=0.4), _head(blur=4.0))
    )
    # Of pixels of 2 mm, some of which are averaged to 2.5 mm.
    assert 0.5 * 0.06 < noisy["noise"] < 0.06
    assert noisy["noise"] == pytest.approx(3 * usual["noise"], rel=0.25)
    # The standard deviation of x / 72 in a ball is 1 / sqrt(5).
    assert shaded["shading"] == pytest.approx(0.4 / np.sqrt(5), rel=0.15)
    assert usual["shading"] < 0.05
    assert shaded["grey / white"] == pytest.approx(0.7, abs=0.04)
    assert blurred["fine detail"] < usual["fine detail"] - 0.1
    assert noisy["fine detail"] > usual["fine detail"]


def test_a_table_tells_who_lies_outside(capsys: pytest.CaptureFixture[str]) -> None:
    people = [(SIMULATED, "0", {"T1": {"noise": 0.1}}), (SIMULATED, "1", {"T1": {"noise": 0.2}})]
    people += [("real", "in", {"T1": {"noise": 0.15}}), ("real", "out", {"T1": {"noise": 0.25}})]
    print_table(people)
    printed = capsys.readouterr().out
    assert "1: out 0.25" in printed
    assert "T1: 1 of 2 values of real scans lie outside" in printed


@pytest.mark.slow
@pytest.mark.real_data
def test_simulated_people_are_about_as_various_as_real_ones(real_data: Path) -> None:
    """Most statistics of a healthy volunteer and of patients lie within the range of a few simulated people."""
    simulated = [found for _, _, found in simulated_people(real_data / "label_maps", 10, 1)]
    inside = []
    for _, _, found in people_of_dataset(real_data / "Dataset001_RealBrain"):
        for modality, statistics in found.items():
            for name, value in statistics.items():
                range_of = [one[modality][name] for one in simulated]
                inside.append(np.isnan(value) or np.nanmin(range_of) <= value <= np.nanmax(range_of))
    assert len(inside) > 200
    assert np.mean(inside) > 0.75
