"""Every awkward export ends in the right volumes or in one clear sentence, and never tells who the patient is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from awkward_exports import Awkward, all_exports
from dicom_writing import PLANTED, brain, positions

from mmccd_auto.dicom.convert import ConvertedSeries, convert_series
from mmccd_auto.dicom.series.choose_series import SeriesChoice, choose_series
from mmccd_auto.dicom.series.find_series import Export, read_export
from mmccd_auto.imaging.volume import Volume

WANTED = ("FLAIR", "T1", "T2")


@dataclass
class Outcome:
    """What was made of an export."""

    export: Export
    used: list[dict[str, int]] = field(default_factory=list)
    rows: list[list[SeriesChoice]] = field(default_factory=list)
    volumes: list[ConvertedSeries] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


@pytest.mark.parametrize("awkward", all_exports(), ids=lambda awkward: awkward.name.replace(" ", "_"))
def test_every_export_ends_well(awkward: Awkward, tmp_path: Path, caplog, capfd) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    outcome = _work_through(awkward.build(folder), tmp_path / "workspace")

    assert outcome.used == [dict(used) for used in awkward.expected.used]
    for reason, count in awkward.expected.ignored.items():
        assert sum(number for name, number in outcome.export.ignored.items() if reason in name) == count, reason
    if awkward.expected.sentence:
        fitting = [sentence for sentence in outcome.sentences if awkward.expected.sentence in sentence]
        assert fitting, outcome.sentences
    assert all(sentence.endswith(".") and sentence[0].isupper() for sentence in outcome.sentences)
    for converted in outcome.volumes:
        assert_brain(converted.volume)
    printed = capfd.readouterr()
    assert_nobody_named(outcome, caplog.text, printed.out, printed.err, *outcome.sentences)


def test_there_are_many_of_them() -> None:
    assert len(all_exports()) >= 25
    assert len({awkward.name for awkward in all_exports()}) == len(all_exports())


def assert_brain(volume: Volume) -> None:
    """The volume shows at every place in the patient what was written there."""
    difference = np.abs(volume.array - brain(positions(volume.geometry)))
    # A voxel on the very edge of the brain may fall on either side by the rounding of its position.
    assert np.mean(difference > 1.01) < 2e-3
    assert volume.array.max() > 400


def assert_nobody_named(*told: object) -> None:
    """Neither in what is printed nor in any representation."""
    shown = "\n".join(text if isinstance(text, str) else repr(text) for text in told).lower()
    assert not [word for word in PLANTED if word in shown]
    assert "山田" not in shown


def _work_through(source: Path, workspace: Path) -> Outcome:
    export = read_export(source, workspace / "unpacked")
    outcome = Outcome(export, sentences=list(export.problems))
    for study in export.studies:
        rows = choose_series(study.series, WANTED)
        outcome.rows.append(rows)
        outcome.used.append({row.used_as: row.number for row in rows if row.used_as})
        outcome.sentences += [row.series.problem for row in rows if row.series.problem]
        outcome.volumes += [convert_series(row.series, workspace) for row in rows if row.used_as]
    return outcome
