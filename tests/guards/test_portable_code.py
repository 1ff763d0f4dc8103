"""Nothing leans on one system: encodings are named, and the repository can be checked out anywhere."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

from mmccd_auto.core.names import name_problem
from mmccd_auto.datasets.subjects import folded

HERE = Path(__file__).parents[2]
ROOMS = ("mmccd_auto", "plans", "preprocessing", "inference")
FOLDERS = (*ROOMS, "tests", "documentation", "containers")
ONLY_UNIX = {"fcntl", "pwd", "grp", "resource", "termios", "pty", "syslog"}
ONLY_WINDOWS = {"msvcrt", "winreg", "_winapi"}


def calls_without_encoding(tree: ast.AST) -> list[int]:
    """Lines of calls that open a text file, or read a program's text, in whatever encoding the system prefers."""
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Call) and _leaves_encoding_open(node)]


def _leaves_encoding_open(call: ast.Call) -> bool:
    given = {keyword.arg for keyword in call.keywords}
    if "encoding" in given:
        return False
    if {"text", "universal_newlines"} & given:
        return True
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text"):
        return len(call.args) < (1 if name == "read_text" else 2)
    # Path.open has the mode first, open second; without one both read text. Archives and the like open with a name.
    is_function = isinstance(call.func, ast.Name) and name == "open"
    modes = [argument.value for argument in call.args[is_function:] if isinstance(argument, ast.Constant)]
    modes += [
        keyword.value.value for keyword in call.keywords if keyword.arg == "mode" and isinstance(keyword.value, ast.Constant)
    ]
    texts = [mode for mode in modes if isinstance(mode, str) and set(mode) <= set("rwaxt+") and mode]
    reads_by_default = name == "open" and not given - {"newline", "errors"} and len(call.args) == int(is_function)
    return name == "open" and (bool(texts) or reads_by_default)


@pytest.mark.parametrize(
    "line", ["open(a)", "p.open()", "p.open('w')", "open(a, 'r')", "p.read_text()", "p.write_text(x)", "run(c, text=True)"]
)
def test_the_guard_sees_what_it_looks_for(line: str) -> None:
    assert calls_without_encoding(ast.parse(line)) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "open(a, 'rb')",
        "p.open('xb')",
        "p.open(encoding='utf-8')",
        "p.read_bytes()",
        "archive.open(entry)",
        "run(c, text=1, encoding=u)",
    ],
)
def test_the_guard_passes_what_is_right(line: str) -> None:
    assert calls_without_encoding(ast.parse(line)) == []


def test_texts_are_read_and_written_in_a_stated_encoding() -> None:
    # Entries of archives are opened as bytes.
    allowed = {"preprocessing/slices.py": 1, "mmccd_auto/trained/model_archive.py": 1}
    found = {}
    for room in ROOMS:
        for path in (HERE / room).rglob("*.py"):
            name = path.relative_to(HERE).as_posix()
            lines = calls_without_encoding(ast.parse(path.read_text(encoding="utf-8")))
            if len(lines) > allowed.get(name, 0):
                found[name] = lines
    assert found == {}


def test_no_module_is_imported_that_one_system_lacks() -> None:
    found = set()
    for path in (path for room in ROOMS for path in (HERE / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {(path.name, name) for name in names if name.split(".")[0] in ONLY_UNIX | ONLY_WINDOWS}
    assert found == set()


def test_the_repository_can_be_checked_out_on_every_system() -> None:
    paths = [path for folder in FOLDERS for path in (HERE / folder).rglob("*") if "__pycache__" not in path.parts]
    assert len(paths) > 300
    names = {path.name.lstrip(".") for path in paths}
    assert {name: problem for name in names if (problem := name_problem("case", name))} == {}
    counts = Counter(folded(path.relative_to(HERE).as_posix()) for path in paths)
    assert [path for path, count in counts.items() if count > 1] == []
    assert [path for path in paths if len(str(path.relative_to(HERE))) > 150] == []
