"""Read the docstrings of this package: what stands behind a parameter's name describes it, types are in the signature."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

SECTIONS = ("Parameters", "Attributes", "Raises", "Returns", "Yields", "Examples")
ENTRY = re.compile(r"(\*{0,2}\w[\w., ]*?) : (.+)")
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([\w.]+)`")


def _reference(found: re.Match[str]) -> str:
    """Write a link where the API pages have the object, else its name alone."""
    name = found.group(1)
    short = name.rpartition(".")[2]
    return f'<autoref optional identifier="{name}"><code>{short}</code></autoref>'


def _entries(title: str, lines: list[str]) -> list[str]:
    """Write the lines of one section as numpydoc has them: names, and descriptions indented below."""
    if title in ("Returns", "Yields"):
        return [":", *(f"    {line}" for line in lines)]
    if title not in ("Parameters", "Attributes"):
        return lines
    written: list[str] = []
    names: list[str] = []
    described: list[str] = []
    for line in [*lines, ""]:
        entry = ENTRY.fullmatch(line)
        if entry is None and line.startswith("    "):
            described.append(line)
            continue
        # Names that share a description have types of their own.
        for name in names:
            written += [name, *described]
        names, described = ([], []) if entry is None else (entry.group(1).split(", "), [f"    {entry.group(2)}"])
        if entry is None:
            written.append(line)
    return written


def as_numpydoc(text: str) -> str:
    """Write a docstring of this package in numpydoc's layout, its Sphinx roles as links."""
    lines, result, title = ROLE.sub(_reference, text).splitlines(), [], ""
    section: list[str] = []
    for index, line in enumerate(lines):
        following = lines[index + 1] if index + 1 < len(lines) else ""
        if line in SECTIONS and re.fullmatch(r"-{3,}", following):
            result += _entries(title, section)
            title, section = line, []
            result.append(line)
        elif title and not section and re.fullmatch(r"-{3,}", line):
            result.append(line)
        else:
            section.append(line)
    return "\n".join(result + _entries(title, section))


class Descriptions(Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Visit each module, class, function and attribute that is found."""
        if obj.docstring is not None:
            obj.docstring.value = as_numpydoc(obj.docstring.value)
