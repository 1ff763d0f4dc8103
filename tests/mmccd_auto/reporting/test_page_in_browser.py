"""The page in headless Chromium: pictures, jumps to lesions, the slider, the keys, and no request to anywhere."""

from __future__ import annotations

import io
import itertools
import os
import shutil
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from page_cases import AXIAL, sagittal_oblique, small_arrays, small_geometry, small_report, to_lps
from PIL import Image

from mmccd_auto.reporting.page.assemble import ListRow

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
    "--disable-quic",
)
PATIENCE = 600_000
HOSTILE, FORMULA = "<script>alert(1)</script>", "=cmd()"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=PATIENCE)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    """A page whose console must stay free of errors, and which may ask for its own files only."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.set_default_timeout(PATIENCE)
    faults = []
    opened.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("dialog", lambda dialog: faults.append(f"dialog {dialog.message}"))
    opened.on("request", lambda made: faults.append(made.url) if not made.url.startswith(("file:", "data:")) else None)
    yield opened
    opened.close()
    assert faults == []


def open_report(page, path: Path, first: str | None = None) -> None:
    page.goto(f"file://{quote(str(path))}")
    page.wait_for_selector("#cases tbody tr")
    if first is not None:
        page.click(f"#cases tbody tr:has-text('{first}')")
        page.wait_for_selector("#case[data-ready]")


def crosshair(page) -> np.ndarray:
    return np.array([float(text) for text in page.get_attribute("#where", "data-lps").split()])


def planes(page) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.locator(".stage").screenshot())).convert("RGB")).astype(int)


def test_names_show_as_text_in_list_and_view(page, tmp_path):
    left_out = ListRow("broken", "failed", "The file <img src=x onerror=alert(2)> can't be read")
    open_report(page, small_report(tmp_path / "a #1", [HOSTILE, FORMULA], extra=(left_out,)))
    assert page.locator("td.name").all_inner_texts()[:2] == [HOSTILE, FORMULA]
    assert "<img src=x" in page.locator("tr.closed").inner_text()
    assert "<b>odd</b>" in page.locator("td.warnings").first.inner_text()
    page.keyboard.press("Enter")
    page.wait_for_selector("#case[data-ready]")
    assert page.inner_text("#case-name") == HOSTILE
    assert "<b>odd</b>" in page.inner_text("#banner")


@pytest.mark.parametrize("direction", [AXIAL, sagittal_oblique()], ids=["axial", "sagittal oblique"])
def test_a_click_on_a_lesion_moves_the_crosshair_into_it(page, tmp_path, direction):
    geometry = small_geometry(direction=direction)
    _, centres = small_arrays(geometry)
    open_report(page, small_report(tmp_path, ["one"], geometry), "one")
    for place in (1, 0):
        page.click(f"tr.lesion >> nth={place}")
        off = np.linalg.inv(np.reshape(geometry.direction, (3, 3))) @ (crosshair(page) - to_lps(geometry, centres[place]))
        assert np.all(np.abs(off) <= geometry.spacing)
        image = 101 + centres[place][2]
        assert f"Image{image}" in page.inner_text("#where").replace(" ", "").replace("\n", "")
        voxel = "".join(str(index) for index in centres[place])
        assert f"Voxel{voxel}" in page.inner_text("#where").replace(" ", "").replace("\n", "")
        score = float(page.inner_text("#where").split("Score")[1])
        assert score > 3.5
    shown = planes(page)
    assert shown.std() > 15
    # The outline of the lesion, in its own colour, is drawn where the crosshair is.
    assert np.count_nonzero(np.abs(shown - [0x35, 0xE0, 0xFF]).sum(axis=-1) < 60) > 50


def test_the_crosshair_is_drawn_on_the_lesion_of_the_picture(page, tmp_path):
    open_report(page, small_report(tmp_path, ["one"]), "one")
    page.click("tr.lesion >> nth=0")
    page.uncheck("#show-brain")
    shown = planes(page)
    outline = np.argwhere(np.abs(shown - [0x35, 0xE0, 0xFF]).sum(axis=-1) < 60)
    crossing = [np.argmax((np.abs(shown - [0xED, 0xC9, 0x5C]).sum(axis=-1) < 110).sum(axis=axis)) for axis in (1, 0)]
    # The two longest lines of the crosshair meet inside the outline of one of the planes.
    assert outline[:, 0].min() <= crossing[0] <= outline[:, 0].max()
    assert outline[:, 1].min() <= crossing[1] <= outline[:, 1].max()


def test_the_slider_changes_mask_and_volume(page, tmp_path):
    open_report(page, small_report(tmp_path, ["one"]), "one")
    before = planes(page)
    steps = int(page.get_attribute("#rate", "max")) + 1
    volumes = []
    for step in range(steps):
        page.evaluate(
            "step => { const slider = document.getElementById('rate'); slider.value = step;"
            " slider.dispatchEvent(new Event('input', {bubbles: true})); }",
            step,
        )
        volumes.append(float(page.get_attribute("#mask-volume", "data-ml")))
    assert volumes == sorted(volumes)
    assert volumes[-1] > 2 * volumes[0]
    assert not np.array_equal(planes(page), before)
    page.click("#as-written")
    assert "Written mask, all voxels: 4.80" in page.inner_text("#mask-text").replace("\u00a0", " ")


def test_display_controls_change_the_picture(page, tmp_path):
    open_report(page, small_report(tmp_path, ["one"]), "one")
    pictures = [planes(page)]
    for act in ("#base-difference", "#base-cycle", "#base-scan", "#show-map", "#show-mask", "#show-brain"):
        page.click(act)
        pictures.append(planes(page))
    for one, other in itertools.pairwise(pictures):
        assert np.abs(one - other).max() > 30
    page.fill("#width", str(float(page.get_attribute("#width", "min"))))
    assert np.abs(planes(page) - pictures[-1]).max() > 30


def test_keys_filter_and_sort(page, tmp_path):
    extra = (ListRow("broken", "failed", "It can't be read"),)
    open_report(page, small_report(tmp_path, ["alpha", "beta", "gamma"], extra=extra))
    chosen = "#cases tr.chosen td.name"
    page.keyboard.press("j")
    assert page.inner_text(chosen) == "beta"
    page.keyboard.press("k")
    assert page.inner_text(chosen) == "alpha"
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#case[data-ready=beta]")
    page.keyboard.press("]")
    there = crosshair(page)
    page.keyboard.press("[")
    assert not np.allclose(there, crosshair(page))
    page.keyboard.press("j")
    page.wait_for_selector("#case[data-ready=gamma]")
    page.keyboard.press("k")
    page.wait_for_selector("#case[data-ready=beta]")
    page.keyboard.press("Escape")
    page.wait_for_selector("#list:not([hidden])")
    page.click("[data-filter=open]")
    assert page.locator("#cases tbody tr").count() == 1
    page.click("[data-filter=all]")
    page.select_option("#sort", "case")
    assert [text.split("\n")[0] for text in page.locator("td.name").all_inner_texts()] == [
        "alpha",
        "beta",
        "broken",
        "gamma",
    ]
    page.fill("#search", "GAM")
    assert page.locator("#cases tbody tr").count() == 1


def test_many_cases_have_an_index_and_pages_that_lead_to_each_other(page, tmp_path):
    open_report(page, small_report(tmp_path, [f"case {number:02d}" for number in range(26)]))
    assert page.locator("#cases tbody tr").count() == 26
    page.keyboard.press("Enter")
    page.wait_for_selector("#case[data-ready='case 00']")
    assert planes(page).std() > 15
    page.keyboard.press("j")
    page.wait_for_selector("#case[data-ready='case 01']")
    page.keyboard.press("Escape")
    page.wait_for_selector("#cases tbody tr")
