"""An import has to be told who is healthy, and says, stores and obeys it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_writing import CLEAN, write_scans

from mmccd_auto.cli.commands.import_export import _command
from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.datasets.health import describe_health
from mmccd_auto.datasets.integrity import verify_dataset
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.importing.import_dataset import ImportOptions, import_dataset
from mmccd_auto.importing.label_files import assign_labels, lay_label, read_label
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps

HEALTHY = ImportOptions(health="healthy")
PATIENTS = ImportOptions(health="unknown")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Two people as NIfTI files, T1 and FLAIR; the second one's T1 lies 9 mm further left by its header."""
    folder = tmp_path_factory.mktemp("people")
    for number in range(2):
        scans = simulate_subject(load_tissue_maps(4), Acquisition(4), (), np.random.default_rng(number)).scans
        for modality in ("FLAIR", "T1"):
            geometry = scans[modality].geometry
            if number == 1 and modality == "T1":
                origin = tuple(np.array(geometry.origin) + (9, 0, 0))
                geometry = Geometry(geometry.size, geometry.spacing, origin, geometry.direction)
            write_volume(scans[modality].array, geometry, folder / ("anna", "carl")[number] / f"{modality}.nii.gz")
    return folder


def lesion(scan: Path, radius: float = 10.0) -> Volume:
    """A ball at the middle of a scan's brain, on its grid."""
    volume = read_volume(scan)
    places = np.indices(volume.array.shape).transpose(1, 2, 3, 0)
    middle = np.argwhere(volume.array > 0).mean(axis=0)
    distance = np.linalg.norm((places - middle) * volume.geometry.spacing[::-1], axis=-1)
    return Volume((distance < radius).astype(np.uint8), volume.geometry)


def put(volume: Volume, path: Path) -> None:
    write_volume(volume.array, volume.geometry, path)


@pytest.mark.parametrize("given", [(), ("--healthy", "--patients"), ("--healthy", "--labels", "x")])
def test_the_command_asks_for_one_of_three(tmp_path: Path, given: tuple[str, ...], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        _command(["-i", str(tmp_path), "-d", "7", "-n", "X", "--raw_folder", str(tmp_path / "raw"), *given])
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert all(word in last for word in ("--healthy", "--labels FOLDER", "--patients"))
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(
    "options",
    [
        ImportOptions(),
        ImportOptions(health="well"),
        ImportOptions(health="labelled"),
        ImportOptions(health="healthy", labels="x"),
        ImportOptions(health="labelled", labels="x", label_values=(0,)),
    ],
)
def test_the_function_asks_too(people: Path, tmp_path: Path, options: ImportOptions) -> None:
    with pytest.raises(MMCCDError, match=r"--healthy .*--labels .*--patients|--label_values"):
        import_dataset(people, tmp_path / "Dataset007_X", options, 0)
    assert not (tmp_path / "Dataset007_X").exists()


def test_the_healthy_are_told_and_stored(people: Path, tmp_path: Path, capsys) -> None:
    status = _command(["-i", str(people), "-d", "7", "-n", "X", "--raw_folder", str(tmp_path), "--healthy", "-np", "0"])
    assert status == 0
    assert "2 people count as healthy, because --healthy was given." in capsys.readouterr().out
    dataset = load_dataset(tmp_path / "Dataset007_X")
    assert dataset.stated_health == {"anna": "healthy", "carl": "healthy"}
    assert dataset.training_cases() == ["anna", "carl"]


def test_patients_train_nothing_and_others_can_be_added(people: Path, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "Dataset007_X"
    shutil.copytree(people / "anna", source / "anna")
    summary = import_dataset(source, output, PATIENTS, 0)
    assert "may be abnormal" in summary.health
    dataset = load_dataset(output)
    assert dataset.cases("Tr") == []
    assert dataset.cases("Ts") == ["anna"]
    with pytest.raises(MMCCDError, match="no case to train on: 1 case is of unknown health"):
        dataset.training_cases()
    others = tmp_path / "others"
    shutil.copytree(people / "carl", others / "carl")
    import_dataset(others, output, HEALTHY, 0)
    dataset = load_dataset(output)
    assert dataset.stated_health == {"anna": "unknown", "carl": "healthy"}
    assert dataset.training_cases() == ["carl"]
    assert dataset.content["numTraining"] == 1
    assert verify_dataset(dataset, 0) == []
    # What was taken for patients turns out to be healthy: the scans move.
    import_dataset(source, output, HEALTHY, 0)
    dataset = load_dataset(output)
    assert dataset.training_cases() == ["anna", "carl"]
    assert dataset.cases("Ts") == []


def test_what_a_person_edits_outlasts_an_import_that_is_run_again(people: Path, tmp_path: Path) -> None:
    output = tmp_path / "Dataset007_X"
    import_dataset(people, output, HEALTHY, 0)
    content = load_json(output / "dataset.json")
    content["health"]["carl"] = "unknown"
    content["subjects"]["carl"] = "anna"
    (output / "dataset.json").write_text(json.dumps(content))
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")}
    import_dataset(people, output, HEALTHY, 0)
    dataset = load_dataset(output)
    assert dataset.training_cases() == ["anna"]
    assert dataset.subject("carl") == "anna"
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert "1 case of unknown health trains nothing" in describe_health(
        {case: dataset.health(case) for case in dataset.cases()}, True
    )


@pytest.mark.parametrize("health", ["healthy", "unknown"])
def test_an_import_that_ended_before_dataset_json_goes_on_with_all_health(people: Path, tmp_path: Path, health) -> None:
    output = tmp_path / "Dataset007_X"
    import_dataset(people, output, ImportOptions(health=health), 0)
    whole = load_json(output / "dataset.json")
    (output / "dataset.json").unlink()
    (output / "import" / "carl.json").unlink()
    import_dataset(people, output, ImportOptions(health=health), 0)
    assert load_json(output / "dataset.json") == whole
    assert set(whole["health"]) == {"anna", "carl"}


def test_labels_go_the_way_of_their_scans(people: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    put(lesion(people / "anna" / "FLAIR.nii.gz"), labels / "anna.nii.gz")
    # Drawn on the T1 that lies elsewhere by its header, and called by its scan.
    put(lesion(people / "carl" / "T1.nii.gz"), labels / "carl" / "T1.nii.gz")
    output = tmp_path / "Dataset007_X"
    summary = import_dataset(people, output, ImportOptions(health="labelled", labels=str(labels)), 0)
    assert summary.failed == []
    assert "2 people have labels" in summary.health
    dataset = load_dataset(output)
    assert verify_dataset(dataset, 0) == []
    for case in ("anna", "carl"):
        expected, found = lesion(people / case / "FLAIR.nii.gz").array, read_volume(dataset.label_file(case)).array > 0
        assert 2 * np.count_nonzero(found & (expected > 0)) / (found.sum() + expected.sum()) > (0.99, 0.8)[case == "carl"]
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")}
    import_dataset(people, output, ImportOptions(health="labelled", labels=str(labels)), 0)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    put(lesion(people / "anna" / "FLAIR.nii.gz", 20), labels / "anna.nii.gz")
    import_dataset(people, output, ImportOptions(health="labelled", labels=str(labels)), 0)
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert "anna.nii.gz" in changed
    assert not any(name.startswith("carl") for name in changed)


def test_a_case_without_a_fitting_label_is_never_healthy(people: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    other_grid = lesion(people / "anna" / "FLAIR.nii.gz")
    geometry = other_grid.geometry
    put(
        Volume(other_grid.array, Geometry(geometry.size, geometry.spacing, (1.0, 2.0, 300.0), geometry.direction)),
        labels / "anna_lesion.nii.gz",
    )
    options = ImportOptions(health="labelled", labels=str(labels))
    summary = import_dataset(people, tmp_path / "Dataset007_X", options, 0)
    assert summary.imported == ()
    told = "\n".join(summary.failed)
    assert "carl has no label in" in told
    assert "anna: its label lies on the grid of none of its scans (FLAIR, T1)" in told
    assert not list((tmp_path / "Dataset007_X").glob("images*/*"))
    far = lesion(people / "anna" / "FLAIR.nii.gz")
    corner = np.zeros_like(far.array)
    corner[:3, :3, :3] = 1
    put(Volume(corner, far.geometry), labels / "anna_lesion.nii.gz")
    summary = import_dataset(people, tmp_path / "Dataset007_X", options, 0)
    assert any("only 0 % of its label lies in its brain" in sentence for sentence in summary.failed)


@pytest.mark.parametrize(("value", "kind"), [(2, np.int16), (255, np.uint8), (-1, np.int16), (0.4, np.float32)])
def test_values_that_mean_nothing_are_refused(tmp_path: Path, value: float, kind: type) -> None:
    array = np.zeros((4, 4, 4), kind)
    array[1, 1, 1], array[2, 2, 2] = value, 1
    grid = Geometry((4, 4, 4), (1.0, 1.0, 1.0), (0.0,) * 3, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    put(Volume(array, grid), tmp_path / "a.nii.gz")
    with pytest.raises(MMCCDError, match=r"a\.nii\.gz holds (unknown )?values"):
        read_label(tmp_path / "a.nii.gz", (1,))
    if value in (2, 255):
        assert read_label(tmp_path / "a.nii.gz", (1, int(value))).array.sum() == 2


def test_names_of_labels(tmp_path: Path) -> None:
    for name in ("A-1_seg", "B/lesion", "José_label", "both_1", "both-1", "stray"):
        path = tmp_path / f"{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    cases = ("a_1", "B", "José", "Jos", "both_1", "stray_FLAIR")
    choice = assign_labels(tmp_path, {case: [case] for case in cases}, [tmp_path / "stray.nii.gz"])
    assert {case: path.name for case, path in choice.by_case.items()} == {
        "a_1": "A-1_seg.nii.gz",
        "B": "lesion.nii.gz",
        "José": "José_label.nii.gz",
    }
    assert "both_1 has 2 labels" in choice.errors["both_1"]
    assert "Jos has no label" in choice.errors["Jos"]
    assert choice.unused == 2
    shared = assign_labels(tmp_path, {"a_1": ["a_1"], "A-1": ["A-1"]}, [])
    assert shared.by_case == {}
    assert all("shares its label" in error for error in shared.errors.values())


def test_a_lesion_between_the_slices_is_not_lost() -> None:
    grid = Geometry((20, 20, 24), (1.0, 1.0, 1.0), (0.0,) * 3, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    drawn = np.zeros((24, 20, 20), np.uint8)
    drawn[8, 5, 5] = drawn[3, 12:16, 12:16] = 1
    thick = Geometry((20, 20, 4), (1.0, 1.0, 6.0), (0.0,) * 3, grid.direction)
    laid = lay_label(Volume(drawn, grid), thick, sitk.Transform(3, sitk.sitkIdentity))
    assert laid.array[1, 5, 5] == 1
    assert laid.array.sum() > 1


def test_another_export_gets_other_numbers_and_the_same_study_its_own(tmp_path: Path) -> None:
    output = tmp_path / "Dataset007_X"
    first, second = tmp_path / "first", tmp_path / "second"
    write_scans(first, CLEAN)
    for number, study in enumerate(("1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.3")):
        write_scans(
            second / str(number), [replace(scan, study=study, patient=(f"N^{study[-1]}", study[-1], "")) for scan in CLEAN]
        )
    write_scans(second / "again", CLEAN)
    import_dataset(first, output, HEALTHY, 0)
    before = read_volume(output / "imagesTr" / "case_0001_0000.nii.gz").array
    summary = import_dataset(second, output, HEALTHY, 0)
    dataset = load_dataset(output)
    assert summary.imported == ("case_0001", "case_0002", "case_0003")
    assert dataset.cases() == ["case_0001", "case_0002", "case_0003"]
    assert len(set(dataset.subjects.values())) == 3
    np.testing.assert_array_equal(read_volume(output / "imagesTr" / "case_0001_0000.nii.gz").array, before)


def test_a_case_of_the_same_name_from_elsewhere_replaces_nothing(people: Path, tmp_path: Path) -> None:
    output = tmp_path / "Dataset007_X"
    import_dataset(people, output, HEALTHY, 0)
    elsewhere = tmp_path / "elsewhere" / "anna"
    shutil.copytree(people / "carl", elsewhere)
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")}
    summary = import_dataset(elsewhere.parent, output, HEALTHY, 0)
    assert summary.imported == ()
    assert "anna is in the dataset already, from another export" in summary.failed[0]
    assert {path: path.stat().st_mtime_ns for path in times} == times
