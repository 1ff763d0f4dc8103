"""Exports become datasets that the pipeline takes."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from awkward_exports import Awkward, all_exports
from dicom_writing import CLEAN, PATIENT, PLANTED, brain, positions, write_scans
from scipy.spatial.transform import Rotation

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.files import load_json
from mmccd_auto.datasets.dataset import load_dataset
from mmccd_auto.datasets.integrity import verify_dataset
from mmccd_auto.imaging.io import read_volume, write_volume
from mmccd_auto.imaging.volume import Geometry, Volume
from mmccd_auto.importing.import_dataset import ImportOptions, import_dataset
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps

HEALTHY = ImportOptions(health="healthy")


def written(folder: Path) -> str:
    """The names of all files, and the text of those that hold text."""
    texts = [path for path in folder.rglob("*") if path.suffix in (".json", ".csv")]
    return "\n".join([*map(str, (path.relative_to(folder) for path in folder.rglob("*"))), *(t.read_text() for t in texts)])


@pytest.mark.parametrize("awkward", all_exports(), ids=lambda awkward: awkward.name.replace(" ", "_"))
def test_every_export_is_imported_or_refused_by_a_sentence(awkward: Awkward, tmp_path: Path, caplog, capfd) -> None:
    folder, output = tmp_path / "export", tmp_path / "Dataset007_Hospital"
    folder.mkdir()
    source = awkward.build(folder)
    caplog.set_level(logging.INFO)
    trainable = [used for used in awkward.expected.used if "FLAIR" in used and len(used) > 1]
    sentences: list[str] = []
    try:
        summary = import_dataset(source, output, HEALTHY, 0)
        sentences = [*summary.failed, *summary.notes]
        imported = summary.imported
    except MMCCDError as error:
        sentences, imported = [str(error)], ()
    assert len(imported) == len(trainable)
    if trainable:
        dataset = load_dataset(output)
        assert verify_dataset(dataset, 0) in ([], _copies(dataset))
        for case in imported:
            volume = read_volume(dataset.channel_file(case, "FLAIR"))
            assert np.mean(np.abs(volume.array - brain(positions(volume.geometry))) > 1.01) < 2e-3
    else:
        assert sentences
    assert all(sentence.rstrip().endswith(".") for sentence in sentences), sentences
    printed = capfd.readouterr()
    told = "\n".join([written(output), caplog.text, printed.out, printed.err, *sentences]).lower()
    # The number alone, four digits, also stands in hashes by chance.
    assert not [word for word in PLANTED if word != "4711" and word in told]


def _copies(dataset) -> list[str]:
    """The writer gives every modality and every patient the same voxels, which the check finds, rightly."""
    return [problem for problem in verify_dataset(dataset, 0) if "holds the same voxels as" in problem]


def test_studies_of_one_person_share_a_subject(tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    later = [replace(scan, study="1.2.826.0.1.3680043.8.498.2") for scan in CLEAN]
    others = [replace(scan, patient=("Other^One", "77", "19700101"), study="1.2.3") for scan in CLEAN]
    for number, scans in enumerate((CLEAN, later, others)):
        write_scans(export / str(number), scans)
    import_dataset(
        export, tmp_path / "Dataset007_Hospital", ImportOptions(health="healthy", link_file=str(tmp_path / "link.csv")), 0
    )
    dataset = load_dataset(tmp_path / "Dataset007_Hospital")
    link = pd.read_csv(tmp_path / "link.csv", dtype=str)
    by_person = {person: set(rows["case"]) for person, rows in link.groupby("patient_id")}
    assert {len(cases) for cases in by_person.values()} == {1, 2}
    for cases in by_person.values():
        assert len({dataset.subject(case) for case in cases}) == 1
    assert len({dataset.subject(case) for case in dataset.cases()}) == 2
    assert PATIENT[1] not in written(tmp_path / "Dataset007_Hospital")


def nifti_export(folder: Path) -> Path:
    """Two people as NIfTI files; the second one's T1 lies elsewhere by its header."""
    for number in range(2):
        subject = simulate_subject(load_tissue_maps(4), Acquisition(4), (), np.random.default_rng(number))
        for modality, volume in subject.scans.items():
            geometry = volume.geometry
            if number == 1 and modality == "T1":
                turn = Rotation.from_euler("xyz", (8, -5, 11), degrees=True).as_matrix()
                geometry = Geometry(
                    geometry.size,
                    geometry.spacing,
                    tuple(turn @ np.array(geometry.origin) + (12, -9, 15)),
                    tuple((turn @ np.reshape(geometry.direction, (3, 3))).ravel()),
                )
            write_volume(volume.array, geometry, folder / f"visit{number}" / f"{modality}.nii.gz")
    return folder


def test_nifti_files_are_laid_on_each_other_and_an_import_goes_on_where_it_was(tmp_path: Path) -> None:
    source, output = nifti_export(tmp_path / "in"), tmp_path / "Dataset008_Files"
    summary = import_dataset(source, output, HEALTHY, 0)
    assert summary.imported == ("visit0", "visit1")
    assert summary.failed == []
    dataset = load_dataset(output)
    assert dataset.modalities == ("FLAIR", "T1", "T2")
    assert verify_dataset(dataset, 0) == []
    record = load_json(output / "import" / "visit1.json")
    assert record["registrations"]["T1"]["moved"]
    assert not record["registrations"]["T2"]["moved"]
    brains = [read_volume(dataset.channel_file("visit1", name)).array != 0 for name in ("FLAIR", "T1")]
    assert 2 * np.count_nonzero(brains[0] & brains[1]) / (brains[0].sum() + brains[1].sum()) > 0.93
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.nii.gz")}
    (output / "import" / "visit0.json").unlink()
    import_dataset(source, output, HEALTHY, 0)
    changed = {path.name for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed
    assert all(name.startswith("visit0") for name in changed)


def test_a_given_dataset_is_never_overwritten_by_an_import(tmp_path: Path) -> None:
    output = tmp_path / "Dataset008_Files"
    output.mkdir()
    (output / "dataset.json").write_text("{}")
    with pytest.raises(MMCCDError, match="not imported"):
        import_dataset(nifti_export(tmp_path / "in"), output, HEALTHY, 0)


def test_background_of_scans_with_negative_tissue_is_below_it(tmp_path: Path) -> None:
    source = nifti_export(tmp_path / "in")
    for path in source.rglob("FLAIR.nii.gz"):
        volume = read_volume(path, dtype=None)
        shifted = np.where(volume.array > 0, volume.array.astype(np.int16) - 500, -600)
        write_volume(Volume(shifted.astype(np.int16), volume.geometry).array, volume.geometry, path)
    summary = import_dataset(source, tmp_path / "Dataset008_Files", HEALTHY, 0)
    dataset = load_dataset(summary.dataset)
    for case in dataset.cases():
        volume, mask = read_volume(dataset.channel_file(case, "FLAIR")), read_volume(dataset.brain_mask_file(case))
        assert volume.array[mask.array == 0].max() < volume.array[mask.array == 1].min()
