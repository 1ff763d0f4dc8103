"""The documentation as a site: built strictly, and read where there is no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("material", reason="the documentation site is not installed (pip install '.[docs]')")
pytest.importorskip("mkdocstrings")

HERE = Path(__file__).parents[2]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 600_000


def build(here: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """What .ci/docs says of a clone."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [here / ".ci" / "docs", output]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    output = tmp_path_factory.mktemp("site")
    done = build(HERE, output)
    assert done.returncode == 0, done.stderr
    return output


def test_the_front_page_is_the_readme(site: Path) -> None:
    front = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="quick_start.html"' in front
    assert 'src="pictures/report_case.png"' in front
    assert (site / "CITATION.cff").read_bytes() == (HERE / "CITATION.cff").read_bytes()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium (apt-get install chromium)")
def test_search_works_without_a_server_and_without_a_network(site: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    elsewhere: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=PATIENCE)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda made: elsewhere.append(made.url) if made.url.startswith("http") else None)
        page.goto(f"file://{quote(str(site / 'index.html'))}")
        page.fill("input.md-search__input", "least lesion volume")
        page.wait_for_selector(".md-search-result__item >> text=least lesion volume")
        links = page.locator(".md-search-result__link")
        found = [links.nth(place).get_attribute("href") or "" for place in range(links.count())]
        browser.close()
    assert any("scores.html" in link for link in found)
    assert elsewhere == []


BROKEN = {
    "[plans](plannning.md)": "plannning.md",
    "[plans](planning.md#the-ruless)": "the-ruless",
    '<img src="https://example.org/picture.png">': "would load <img> https://example.org/picture.png",
    "Two things:\n- one\n- another": "put an empty line before the list",
}


@pytest.mark.parametrize(
    "broken", [BROKEN, {"::: mmccd_auto.workflows.train.no_such_name": "no_such_name"}], ids=["pages", "names"]
)
def test_what_is_broken_ends_the_build(tmp_path: Path, broken: dict[str, str]) -> None:
    for name in (".ci", "mmccd_auto", "plans", "preprocessing", "inference"):
        (tmp_path / name).symlink_to(HERE / name)
    for name in ("mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff", "LICENSE"):
        shutil.copy(HERE / name, tmp_path)
    # Without the API pages, which take most of the time.
    shutil.copytree(HERE / "documentation", tmp_path / "documentation", ignore=shutil.ignore_patterns("api"))
    with (tmp_path / "documentation" / "report.md").open("a", encoding="utf-8") as file:
        file.write("".join(f"\n\n{added}\n" for added in broken))
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode == 1, done.stderr
    assert [warning for warning in broken.values() if warning not in done.stderr] == []
