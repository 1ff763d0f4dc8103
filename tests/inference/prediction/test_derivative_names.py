"""Where the maps of a BIDS scan go."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.inference.prediction.derivative.names import target_of


@pytest.mark.parametrize(
    ("scan", "folder", "session"),
    [
        ("sub-01/anat/sub-01_FLAIR.nii.gz", "sub-01/anat", None),
        ("sub-01/ses-2/anat/sub-01_ses-2_acq-ax_FLAIR.nii.gz", "sub-01/ses-2/anat", "ses-2"),
    ],
)
def test_maps_lie_beside_each_other_below_the_person(scan: str, folder: str, session: str | None) -> None:
    target = target_of(scan)
    assert target.folder == Path(folder)
    assert (target.person, target.session) == ("sub-01", session)


def test_a_map_has_the_scans_entities_and_its_own() -> None:
    target = target_of("sub-01/anat/sub-01_acq-ax_run-2_FLAIR.nii.gz")
    name = target.file("probseg", ".nii.gz", desc="anomaly").name
    assert name.startswith("sub-01_acq-ax_run-2_")
    assert name.endswith("desc-anomaly_probseg.nii.gz")


def test_a_scan_that_bids_does_not_name_is_refused() -> None:
    with pytest.raises(MMCCDError, match=r"flair\.nii\.gz is not named by BIDS"):
        target_of("flair.nii.gz")
