"""The lower bounds in pyproject.toml are the versions of constraints-minimum.txt, and the usual pins fit them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
# Only the release of constraints.txt has a small CPU wheel; the bound is what the code needs.
NOT_TRIED_AT_ITS_BOUND = {"torch"}


def dependencies(repository: Path) -> list[Requirement]:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project["dependencies"]]


def lower_bound(requirement: Requirement) -> Version:
    (bound,) = (part.version for part in requirement.specifier if part.operator == ">=")
    return Version(bound)


def constraints(repository: Path, name: str) -> dict[str, Requirement]:
    lines = (repository / name).read_text(encoding="utf-8").splitlines()
    return {
        canonicalize_name(Requirement(line).name): Requirement(line)
        for line in lines
        if line.strip() and not line.lstrip().startswith("#")
    }


def pinned(requirement: Requirement) -> Version:
    (pin,) = (part.version for part in requirement.specifier if part.operator == "==")
    return Version(pin)


def test_lower_bounds_are_the_versions_that_are_tried(repository: Path) -> None:
    declared = {canonicalize_name(each.name): lower_bound(each) for each in dependencies(repository)}
    tried = {name: pinned(each) for name, each in constraints(repository, "constraints-minimum.txt").items()}
    assert declared.keys() == tried.keys()
    differing = {name: (str(bound), str(tried[name])) for name, bound in declared.items() if bound != tried[name]}
    assert set(differing) == NOT_TRIED_AT_ITS_BOUND


def test_torch_is_one_release_in_both_files(repository: Path) -> None:
    usual, oldest = (constraints(repository, name)["torch"] for name in ("constraints.txt", "constraints-minimum.txt"))
    assert pinned(usual) == pinned(oldest)
    assert pinned(usual) in next(each for each in dependencies(repository) if each.name == "torch").specifier


def test_pins_are_allowed_by_the_bounds(repository: Path) -> None:
    usual = constraints(repository, "constraints.txt")
    declared = dependencies(repository)
    missing = [each.name for each in declared if canonicalize_name(each.name) not in usual]
    assert missing == []
    exact = [each for each in declared if re.fullmatch(r"==.*", str(usual[canonicalize_name(each.name)].specifier))]
    assert len(exact) > 15
    assert [each.name for each in exact if pinned(usual[canonicalize_name(each.name)]) not in each.specifier] == []


def test_every_dependency_is_explained(repository: Path) -> None:
    """documentation/dependencies.md has a line for each."""
    text = (repository / "documentation" / "dependencies.md").read_text(encoding="utf-8")
    explained = {
        canonicalize_name(name)
        for cell in re.findall(r"^\| ([^|]+) \|", text, re.M)
        for name in re.split(r"[,\s]+", cell)
        if name
    }
    assert [each.name for each in dependencies(repository) if canonicalize_name(each.name) not in explained] == []
