"""Read the docstrings of this package: what stands behind a parameter's name describes it, types are in the signature."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

SECTIONS = ("Parameters", "Attributes", "Raises", "Returns", "Yields")
ENTRY = re.compile(r"(\*{0,2}\w[\w., ]*?) : (.+)")
ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([\w.]+)`")


def _reference(found: re.Match[str]) -> str:
    """A link where the API pages have the object, else its name alone."""
    name = found.group(1)
    short = name.rpartition(".")[2]
    return f'<autoref optional identifier="{name}"><code>{short}</code></autoref>'


def _entries(title: str, lines: list[str]) -> list[str]:
    """The lines of one section as numpydoc has them: names, and descriptions indented below."""
    written: list[str] = []
    for line in lines:
        entry = ENTRY.fullmatch(line)
        if title in ("Parameters", "Attributes") and entry is not None:
            written += [entry.group(1), f"    {entry.group(2)}"]
        elif title in ("Returns", "Yields") and line and not written:
            written += [":", f"    {line}"]
        elif title in ("Returns", "Yields") and line:
            written.append(f"    {line}")
        else:
            written.append(line)
    return written


def as_numpydoc(text: str) -> str:
    """A docstring of this package in numpydoc's layout, its Sphinx roles as links."""
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
        """Called for each module, class, function and attribute that is found."""
        if obj.docstring is not None:
            obj.docstring.value = as_numpydoc(obj.docstring.value)
