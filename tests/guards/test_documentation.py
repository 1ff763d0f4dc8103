"""The documentation stays whole: links lead somewhere, in a repository browser as on the site, and nothing is forgotten."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import mmccd_auto

HERE = Path(__file__).parents[2]
FOLDER = HERE / "documentation"
PAGES = sorted(FOLDER.rglob("*.md"))
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
"""Pages beside documentation/ that the site has, too (.ci/site/pages.py)."""
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    """A page without code, in which brackets and number signs mean something else."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^ {4}.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """What a repository browser calls the headings of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", found) for found in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    """The links and pictures of a page that lead into the repository."""
    found = LINK.findall(without_code(page.read_text(encoding="utf-8")))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", [HERE / name for name in OUTSIDE] + PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.is_file() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_a_lost_heading_would_be_found() -> None:
    assert "a-budget-and-the-machine-that-is-here" in anchors(FOLDER / "planning.md")
    assert "no-such-heading" not in anchors(FOLDER / "planning.md")
    assert "scores.md#units" in LINK.findall("see [the [nested] words](scores.md#units)")


def test_every_page_is_in_the_navigation() -> None:
    navigation = (HERE / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"([\w/]+\.md)$", navigation, re.MULTILINE)
    expected = {page.relative_to(FOLDER).as_posix() for page in PAGES} | {
        "index.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
    }
    assert len(listed) == len(set(listed))
    assert set(listed) == expected


def test_every_picture_is_shown() -> None:
    pages = [HERE / "README.md", *PAGES]
    shown = {(page.parent / link).resolve() for page in pages for link in links(page) if "pictures/" in link}
    assert shown == {path.resolve() for path in (FOLDER / "pictures").iterdir()}


@pytest.mark.parametrize("name", mmccd_auto._MODULES)
def test_the_public_face_is_on_the_api_pages(name: str) -> None:
    home = f"mmccd_auto.{mmccd_auto._MODULES[name]}"
    pages = "".join(page.read_text(encoding="utf-8") for page in (FOLDER / "api").glob("*.md"))
    assert f"::: {home}.{name}\n" in pages
    assert f"`{name}`" in (FOLDER / "api" / "index.md").read_text(encoding="utf-8")


def test_the_picture_of_the_rooms_is_up_to_date(tmp_path: Path) -> None:
    drawn = tmp_path / "architecture.svg"
    subprocess.run([sys.executable, HERE / ".ci" / "draw_architecture.py", drawn], check=True, timeout=600)
    assert drawn.read_text(encoding="utf-8") == (FOLDER / "pictures" / "architecture.svg").read_text(encoding="utf-8")


def test_every_command_is_explained() -> None:
    commands = {
        point.name
        for point in entry_points(group="console_scripts")
        if point.value.startswith("mmccd_auto.cli.entry_points:")
    }
    assert len(commands) >= 14
    text = (FOLDER / "commands.md").read_text(encoding="utf-8")
    assert commands == set(re.findall(r"^## (mmccd_\w+)$", text, re.MULTILINE))


WRAPPED = (
    *("quick_start.md", "glossary.md", "report.md", "performance.md", "architecture.md"),
    *("measurements/index.md", "api/*.md"),
)
"""Pages whose prose is wrapped; the others are as they grew, and join when they are rewritten."""
LONGEST_LINE = 100


@pytest.mark.parametrize("pattern", WRAPPED)
def test_prose_is_wrapped(pattern: str) -> None:
    pages = list(FOLDER.glob(pattern)) if "*" in pattern else [FOLDER / pattern]
    assert pages
    for page in pages:
        text = without_code(page.read_text(encoding="utf-8"))
        # A table's row is one line, and a link or picture can't be broken.
        lines = [line for line in text.splitlines() if not line.startswith(("|", "![", "<", ":::")) and "](" not in line]
        assert [line for line in lines if len(line) > LONGEST_LINE] == []
