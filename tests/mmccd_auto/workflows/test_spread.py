"""Import and preprocessing spread over a cluster or over parts: the same files as of one process, to the last byte."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from measure_cluster import OPTIONS, differing, write_small_dataset

from mmccd_auto.cli.commands import import_export, plan_and_preprocess
from mmccd_auto.cli.common import run_command
from mmccd_auto.core.disk.parts import PARTS_FOLDER, Part, part_lock
from mmccd_auto.core.errors import MMCCDError

CASES = 12
IMPORTED = 4
"""Importing takes ten times as long as preprocessing."""
PARTS = 3


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    write_small_dataset(folder, CASES)
    return folder


@pytest.fixture(scope="module")
def export(raw: Path) -> Path:
    """The same scans, named by modality."""
    folder = raw.parent / f"{raw.name}-export"
    folder.mkdir()
    for path in sorted((raw / "Dataset007_Small" / "imagesTr").iterdir())[: 2 * IMPORTED]:
        case, channel = path.name.removesuffix(".nii.gz").rsplit("_", 1)
        shutil.copy(path, folder / f"{case}_{('FLAIR', 'T1')[int(channel)]}.nii.gz")
    return folder


def imported(export: Path, home: Path, *options: str) -> int:
    arguments = ["-i", str(export), "-d", "8", "-n", "Spread", "--healthy", "--quiet", "--raw_folder", str(home), *options]
    return run_command(import_export._command, arguments)


def preprocessed(raw: Path, home: Path, *options: str) -> int:
    arguments = [
        *OPTIONS,
        "-device",
        "cpu",
        "--quiet",
        "--raw_folder",
        str(raw),
        "--preprocessed_folder",
        str(home),
        *options,
    ]
    return run_command(plan_and_preprocess._command, arguments)


@pytest.fixture(scope="module")
def imported_once(export: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the export."""
    folder = tmp_path_factory.mktemp("once")
    assert imported(export, folder, "-np", "0") == 0
    return folder


@pytest.fixture(scope="module")
def preprocessed_once(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of the dataset."""
    folder = tmp_path_factory.mktemp("once")
    assert preprocessed(raw, folder, "-np", "0") == 0
    return folder


def test_a_cluster_imports_the_same_files(export: Path, imported_once: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    assert imported(export, tmp_path, "--cluster", "local:2") == 0
    assert differing(imported_once, tmp_path) == []


def test_a_cluster_preprocesses_the_same_files(raw: Path, preprocessed_once: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    assert preprocessed(raw, tmp_path, "--cluster", "local:2") == 0
    assert differing(preprocessed_once, tmp_path) == []


def test_parts_of_an_import_make_the_same_files(export: Path, imported_once: Path, tmp_path: Path, capsys) -> None:
    for number in (2, 1, 2, 3):
        assert imported(export, tmp_path, "-np", "0", "--part", f"{number}/{PARTS}") == 0
        assert "once all parts are imported" in capsys.readouterr().out
    assert not (tmp_path / "Dataset008_Spread" / "dataset.json").exists(), "a part tells nothing of the whole"
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "Dataset008_Spread" / "imagesTr").iterdir()}
    assert len(written) == 2 * IMPORTED
    assert imported(export, tmp_path, "-np", "0") == 0
    assert {path: path.stat().st_mtime_ns for path in written} == written, "nothing is imported twice"
    assert differing(imported_once, tmp_path) == []
    assert not (tmp_path / "Dataset008_Spread" / PARTS_FOLDER).exists()


def test_parts_of_a_preprocessing_make_the_same_files(raw: Path, preprocessed_once: Path, tmp_path: Path, capfd) -> None:
    home = tmp_path / "Dataset007_Small"
    assert preprocessed(raw, tmp_path, "-np", "0", "--part", f"1/{PARTS}") == 1
    assert "run mmccd_plan_and_preprocess --no_pp once" in capfd.readouterr().err
    for number in range(1, PARTS + 1):
        assert preprocessed(raw, tmp_path, "-np", "0", "--no_pp", "--part", f"{number}/{PARTS}") == 0
    assert [path.name for path in home.iterdir() if path.name != PARTS_FOLDER] == ["dataset_fingerprint"]
    assert preprocessed(raw, tmp_path, "-np", "0", "--no_pp") == 0
    for number in (3, 1, 2, 1):
        assert preprocessed(raw, tmp_path, "-np", "0", "--part", f"{number}/{PARTS}") == 0
    assert preprocessed(raw, tmp_path, "-np", "0") == 0
    assert differing(preprocessed_once, tmp_path) == []


def test_every_case_is_in_one_part() -> None:
    cases = [f"sub-{number:03d}" for number in range(500)] + ["Ärztin", "\udcff"]
    parts = [Part(number, 7).of(cases) for number in range(1, 8)]
    assert sorted(case for part in parts for case in part) == sorted(cases)
    assert min(len(part) for part in parts) > 40
    # By the name alone: these may never change, since the jobs of one array may run at different versions.
    assert [case for case in cases[:20] if Part(2, 7).holds(case)] == ["sub-005", "sub-007", "sub-008", "sub-014", "sub-018"]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "1/1000000", "-1/3"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(MMCCDError, match="give I/N with I from 1 to N"):
        Part.parse(text)


def test_parts_bear_each_other_and_no_run_over_the_whole(tmp_path: Path) -> None:
    refused: list[str] = []

    def attempt(part: Part | None) -> None:
        try:
            with part_lock(tmp_path, part, "maps"):
                pass
        except MMCCDError as error:
            refused.append(str(error))

    def elsewhere(part: Part | None) -> list[str]:
        refused.clear()
        thread = threading.Thread(target=attempt, args=(part,))
        thread.start()
        thread.join()
        return list(refused)

    with part_lock(tmp_path, Part(1, 3), "maps"):
        assert elsewhere(Part(2, 3)) == []
        (again,) = elsewhere(Part(1, 3))
        assert "is in use" in again
        assert "part 1/3 of maps" in again
        (whole,) = elsewhere(None)
        assert "part 1/3 of maps" in whole
    assert elsewhere(None) == []
    assert list(tmp_path.iterdir()) == []
