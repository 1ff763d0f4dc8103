"""What mkdocs does beyond its plugins: pages made of files outside documentation/, and checks of what was built."""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

HERE = Path(__file__).parents[2]
ROOMS = ("plans", "preprocessing", "inference")
# Page -> file beside documentation/ that it is made of; other files are copied, so that links to them lead somewhere.
PAGES = {
    "index.md": "README.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "SECURITY.md": "SECURITY.md",
}
COPIED = ("CITATION.cff", "LICENSE")
FETCHING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
# What a repository browser takes for a list or a table, and Python-Markdown for lines of a paragraph.
LOST_BLOCK = re.compile(r"<p>(?:(?!</p>).)*?\n(?:- |\* |\d+\. |\|)", re.DOTALL)

logger = logging.getLogger("mkdocs.hooks.pages")
_layout: list[Path] = []


# Before mkdocstrings, which looks at its paths once.
@event_priority(100)
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lay out the package as it is installed, for the API pages: plans, preprocessing and inference inside."""
    layout = Path(tempfile.mkdtemp(prefix="mmccd_layout_"))
    _layout.append(layout)
    package = layout / "mmccd_auto"
    package.mkdir()
    for path in (HERE / "mmccd_auto").iterdir():
        (package / path.name).symlink_to(path)
    for room in ROOMS:
        (package / room).symlink_to(HERE / room)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(layout)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made of files beside documentation/."""
    for name, source in PAGES.items():
        text = (HERE / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=re.sub(r"(\]\(|src=\")documentation/", r"\1", text)))
    for name in COPIED:
        files.append(File.generated(config, name, content=(HERE / name).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files beside documentation/ to the pages that are made of them."""
    links = {source: name for name, source in PAGES.items()} | {name: name for name in COPIED}
    for source, name in links.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{re.escape(source)}", f"]({_up(page)}{name}", markdown)
    return markdown


def _up(page: Page) -> str:
    return "../" * page.file.src_uri.count("/")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Warn, which ends a strict build, of lists and tables that need an empty line before them to be such."""
    for found in LOST_BLOCK.finditer(html):
        logger.warning("%s: put an empty line before the list or table after %r.", page.file.src_uri, found.group()[-120:])
    return html


class _Fetched(HTMLParser):
    """Collects what a page would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get(FETCHING.get(tag, ""))
        if address is not None and re.match(r"(?:https?:)?//", address):
            self.found.append(f"<{tag}> {address}")


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Warn of scripts, styles, pictures and fonts from elsewhere: the site is read where there is no network."""
    parser = _Fetched()
    parser.feed(output)
    for found in parser.found:
        logger.warning("%s would load %s: ship the file in documentation/ instead.", page.file.src_uri, found)
    return output


def on_post_build(config: MkDocsConfig) -> None:
    """Check that style sheets load nothing from elsewhere, and remove the layout."""
    for path in Path(config.site_dir).rglob("*.css"):
        for address in re.findall(r"(?:url\(|@import\s)[\"']?((?:https?:)?//[^\"')]+)", path.read_text(encoding="utf-8")):
            logger.warning("%s would load %s: ship the file in documentation/ instead.", path.name, address)
    _remove_layout()


def on_build_error(error: Exception, **_: Any) -> None:
    """Remove the layout when a page can't be built."""
    _remove_layout()


def _remove_layout() -> None:
    while _layout:
        shutil.rmtree(_layout.pop())
