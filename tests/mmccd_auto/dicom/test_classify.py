"""Contrasts told from the parameters that scanners really write."""

from __future__ import annotations

import pytest

from mmccd_auto.dicom.records import SequenceFacts
from mmccd_auto.dicom.series.classify import KINDS, classify


def facts(
    name: str,
    sequence: str = "",
    tr: float | None = None,
    te: float | None = None,
    ti: float | None = None,
    image_type: str = "ORIGINAL PRIMARY M",
    **others: object,
) -> SequenceFacts:
    """Facts in a line; ``sequence`` and ``image_type`` are words with spaces between."""
    return SequenceFacts(
        description=name,
        scanning_sequence=tuple(sequence.split()),
        repetition_time=tr,
        echo_time=te,
        inversion_time=ti,
        image_type=tuple(image_type.split()),
        images=others.pop("images", 24),
        **others,
    )


REALISTIC = [
    ("FLAIR", facts("sT2W/FLAIR", "IR", 9000, 100, 2500)),
    ("FLAIR", facts("t2_tirm_tra_dark-fluid_4mm", "SE IR", 9000, 87, 2500)),
    ("FLAIR", facts("t2_space_dark-fluid_sag_p2_iso", "SE IR", 5000, 387, 1800, mr_acquisition_type="3D")),
    ("FLAIR", facts("Sag CUBE FLAIR", "RM", 6502, 120, 1870)),
    ("FLAIR", facts("3D_Brain_VIEW_FLAIR", "IR", 4800, 282, 1650)),
    ("FLAIR", facts("", "SE IR", 8000, 120, 2200)),
    ("FLAIR", facts("FLAIR longTR", "SE IR", 11000, 125)),
    ("FLAIR", facts("FLAIR + KM", "SE IR", 9000, 100, 2500, contrast_agent=True)),
    ("T1", facts("T1/SE/extrp", "SE", 450, 10)),
    ("T1", facts("t1_mprage_sag_p2_iso", "GR IR", 2300, 2.98, 900)),
    ("T1", facts("Ax 3D BRAVO", "GR", 8.2, 3.2, 450)),
    ("T1", facts("sT1W_3D_TFE", "GR", 7.6, 3.5)),
    ("T1", facts("T1 FLAIR", "SE IR", 2200, 24, 860)),
    ("T1", facts("Ax T1 FLAIR PROPELLER", "RM", 2500, 22, 1000)),
    ("T1", facts("t1_tse_tra", "SE", 600, 9.5)),
    ("T1", facts("", "SE", 500, 15)),
    ("T1", facts("T1 TSE 3T", "SE", 2000, 20)),
    ("T1C", facts("t1_mprage_tra KM", "GR IR", 1900, 2.5, 900, contrast_agent=True)),
    ("T1C", facts("t1_se_tra_post_Gd", "SE", 550, 12)),
    ("T1C", facts("AX T1 +C", "SE", 550, 12)),
    ("T1", facts("t1_se_tra nativ (ohne KM)", "SE", 550, 12)),
    ("T1", facts("t1 posterior fossa", "SE", 550, 12)),
    ("T2", facts("sT2/TSE/T", "SE", 4450, 100)),
    ("T2", facts("t2_tse_tra_512", "SE", 5500, 99)),
    ("T2", facts("t2_space_sag_iso", "SE", 3200, 408, mr_acquisition_type="3D")),
    ("T2", facts("", "SE", 4000, 90)),
    ("PD", facts("PD TSE", "SE", 3000, 15)),
    ("PD", facts("pd+t2_tse_tra", "SE", 3800, 12)),
    ("SWI", facts("t2_fl2d_tra_hemo", "GR", 800, 25)),
    ("SWI", facts("SWI_Images", "GR", 28, 20)),
    ("SWI", facts("", "GR", 600, 20)),
    ("DWI", facts("ep2d_diff_3scan_trace_p2", "EP SE", 6000, 90)),
    ("DWI", facts("AX DWI b1000", "EP SE", 6000, 80, b_value=1000.0)),
    ("DWI", facts("", "EP SE", 6000, 80, image_type="ORIGINAL PRIMARY DIFFUSION NONE")),
    ("ADC", facts("ep2d_diff_ADC", "EP SE", 6000, 90, image_type="DERIVED PRIMARY DIFFUSION ADC ND")),
    ("ADC", facts("dADC map", "EP SE", 6000, 90)),
    ("localiser", facts("Survey", "GR", 12, 5, images=9)),
    ("localiser", facts("AAHead_Scout", "GR", 3.15, 1.37, image_type="ORIGINAL PRIMARY M LOCALIZER")),
    ("derived", facts("MIP TOF", "GR", 22, 7, image_type="DERIVED SECONDARY MIP")),
    ("derived", facts("mIP_Images(SW)", "GR", 28, 20, image_type="DERIVED PRIMARY MNIP ND")),
    ("other", facts("TOF_3D_multi-slab", "GR", 22, 7)),
    ("other", facts("STIR cor", "SE IR", 5000, 60, 160)),
    ("other", facts("ep2d_bold_rest", "EP GR", 2000, 30)),
    ("other", facts("t2_ciss3d", "GR", 12, 5.9)),
    ("other", facts("")),
    ("T2", facts("t2 tse")),
]


@pytest.mark.parametrize(("kind", "given"), REALISTIC, ids=lambda item: getattr(item, "description", None))
def test_realistic_series(kind: str, given: SequenceFacts) -> None:
    found = classify(given)
    assert found.kind == kind, found
    assert 0 < found.confidence <= 1
    assert found.reason
    assert found.kind in KINDS


def test_parameters_win_over_the_name() -> None:
    found = classify(facts("T1 axial", "SE IR", 9000, 100, 2500))
    assert found.kind == "FLAIR"
    assert found.confidence < 0.7
    assert "although its name says T1" in found.reason


def test_the_reason_gives_the_numbers() -> None:
    reason = classify(facts("sT2W/FLAIR", "IR", 9000, 100, 2500)).reason
    assert all(number in reason for number in ("2500", "9000", "100"))


def test_reformatted_planes_keep_their_contrast() -> None:
    found = classify(facts("FLAIR MPR ax", "SE IR", 5000, 387, 1800, image_type="DERIVED PRIMARY MPR"))
    assert (found.kind, found.original) == ("FLAIR", False)
    assert "computed from other images" in found.reason


def test_a_name_alone_is_believed_less() -> None:
    assert classify(facts("t2 tse")).confidence <= 0.5
    assert classify(facts("t2 tse", "SE", 4000, 100)).confidence > 0.9
