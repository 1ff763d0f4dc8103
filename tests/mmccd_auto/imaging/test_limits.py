"""What no scan of a head can be is refused before memory is taken for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.limits import check_geometry, check_promise
from mmccd_auto.imaging.volume import Geometry

HEAD = Geometry((200, 220, 180), (1.0, 1.0, 1.0), (-100.0, -110.0, -90.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
FLAT = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0)


@pytest.mark.parametrize("changed", [{}, {"spacing": (0.05, 0.5, 5.0)}, {"size": (1, 1, 1)}, {"size": (1000, 1000, 1)}])
def test_heads_pass(changed: dict[str, Any]) -> None:
    check_geometry(replace(HEAD, **changed), "a.nii.gz")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"size": (200, 0, 180)}, "200 x 0 x 180 voxels, that is none"),
        ({"size": (1024, 1024, 1024), "spacing": (0.1, 0.1, 0.1)}, "more than can be handled"),
        ({"spacing": (0.04, 1.0, 1.0)}, "voxels of 0.04 x 1 x 1 mm"),
        ({"spacing": (1.0, 1.0, 21.0)}, "voxels of 1 x 1 x 21 mm"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "voxels of 1 x nan x 1 mm"),
        ({"origin": (0.0, float("inf"), 0.0)}, "NaN or infinity"),
        ({"direction": FLAT}, "voxel axes that lie in one plane"),
        ({"size": (1001, 10, 10)}, "1001 x 10 x 10 mm large"),
        ({"origin": (0.0, 0.0, 200_000.0)}, "lies more than 100 m from"),
    ],
)
def test_what_can_be_no_head_is_named(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(MMCCDError, match=rf"^a\.nii\.gz .*{words}"):
        check_geometry(replace(HEAD, **changed), "a.nii.gz")


def test_a_file_can_not_hold_more_than_compression_allows() -> None:
    check_promise(1_100_000, 1000, "a.nii.gz")
    with pytest.raises(MMCCDError, match="promises 1100001 bytes of voxels, and the file has 1000"):
        check_promise(1_100_001, 1000, "a.nii.gz")
