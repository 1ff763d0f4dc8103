"""The simulated head around a brain-extracted scan."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.imaging.brain_mask import examine_brain
from mmccd_auto.imaging.volume import Volume
from mmccd_auto.phantom.head import mask_on, with_simulated_head
from mmccd_auto.phantom.subject import Acquisition, simulate_subject
from mmccd_auto.phantom.tissue_maps import load_tissue_maps


@pytest.fixture(scope="module")
def stripped() -> dict[str, Volume]:
    scans = simulate_subject(load_tissue_maps(4), Acquisition(4.0), (), np.random.default_rng(3)).scans
    # A brain that touches the lowest slice would stay without a neck.
    return {name: Volume.from_image(sitk.ConstantPad(scan.to_image(), (0, 0, 1), (0, 0, 0))) for name, scan in scans.items()}


@pytest.mark.parametrize("modality", ["FLAIR", "T1", "T2"])
def test_the_brain_keeps_its_voxels_and_gets_a_skull(stripped, modality) -> None:
    volume = stripped[modality]
    brain = volume.array > 0
    head = with_simulated_head(volume, brain, modality, np.random.default_rng(0))
    mask = mask_on(brain, volume.geometry, head.geometry)
    assert np.array_equal(head.array[mask], volume.array[brain].astype(np.float32))
    assert examine_brain(volume.array, volume.geometry.spacing).usable
    assert not examine_brain(head.array, head.geometry.spacing).usable


def test_the_field_of_view_grows_around_a_tightly_cut_brain(stripped) -> None:
    volume = stripped["T1"]
    box = ndimage.find_objects((volume.array > 0).astype(np.uint8))[0]
    tight = Volume.from_image(volume.to_image()[tuple(slice(axis.start - 1, axis.stop + 1) for axis in reversed(box))])
    brain = tight.array > 0
    head = with_simulated_head(tight, brain, "T1", np.random.default_rng(0))
    assert head.array.shape[0] > brain.shape[0] + 10
    mask = mask_on(brain, tight.geometry, head.geometry)
    assert np.count_nonzero(mask) == np.count_nonzero(brain)
    assert np.array_equal(head.array[mask], tight.array[brain].astype(np.float32))


def test_fat_is_bright_on_t1_and_less_so_on_flair(stripped) -> None:
    above = {}
    for modality in ("FLAIR", "T1"):
        volume = stripped[modality]
        brain = volume.array > 0
        head = with_simulated_head(volume, brain, modality, np.random.default_rng(0))
        mask = mask_on(brain, volume.geometry, head.geometry)
        middle = np.median(head.array[mask])
        above[modality] = np.percentile(head.array[~mask & (head.array > 0.2 * middle)], 90) / middle
    assert above["T1"] > 1.3
    assert above["FLAIR"] < above["T1"]


def test_the_layers_are_not_concentric(stripped) -> None:
    volume = stripped["T1"]
    brain = volume.array > 0
    head = with_simulated_head(volume, brain, "T1", np.random.default_rng(0))
    other = with_simulated_head(volume, brain, "T1", np.random.default_rng(1))
    same = with_simulated_head(volume, brain, "T1", np.random.default_rng(0))
    assert np.array_equal(head.array, same.array)
    scalps = [one.array > 1.2 * np.median(volume.array[brain]) for one in (head, other)]
    assert np.count_nonzero(scalps[0] & scalps[1]) < 0.9 * np.count_nonzero(scalps[0] | scalps[1])


@pytest.mark.parametrize("code", ["RAS", "PIL", "SAR"])
def test_the_axes_of_storage_do_not_matter(stripped, code) -> None:
    volume = stripped["T2"]
    turned = Volume.from_image(sitk.DICOMOrient(volume.to_image(), code))
    head = with_simulated_head(volume, volume.array > 0, "T2", np.random.default_rng(0))
    other = with_simulated_head(turned, turned.array > 0, "T2", np.random.default_rng(0))
    expected = Volume.from_image(sitk.DICOMOrient(head.to_image(), code))
    assert not other.geometry.differences(expected.geometry)
    assert np.array_equal(other.array, expected.array)
    assert np.array_equal(
        other.array[mask_on(turned.array > 0, turned.geometry, other.geometry)], turned.array[turned.array > 0]
    )


def test_a_brain_that_the_scan_cuts_off_is_not_padded_there(stripped) -> None:
    volume = stripped["FLAIR"]
    brain = volume.array > 0
    middle = volume.array.shape[0] // 2
    geometry = Volume.from_image(volume.to_image()[:, :, middle - 5 : middle + 5]).geometry
    slab = Volume(volume.array[middle - 5 : middle + 5], geometry)
    head = with_simulated_head(slab, brain[middle - 5 : middle + 5], "FLAIR", np.random.default_rng(0))
    assert head.array.shape[0] == 10


def test_bad_input_is_told(stripped) -> None:
    volume = stripped["T1"]
    with pytest.raises(MMCCDError, match="CT has no simulated head"):
        with_simulated_head(volume, volume.array > 0, "CT", np.random.default_rng(0))
    with pytest.raises(MMCCDError, match="empty"):
        with_simulated_head(volume, volume.array > np.inf, "T1", np.random.default_rng(0))
