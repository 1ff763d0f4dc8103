"""Descriptions as scanners of four makers and their users write them, with the parameters that come with them."""

from __future__ import annotations

import pytest

from mmccd_auto.dicom.records import SequenceFacts
from mmccd_auto.dicom.series.classify import classify
from mmccd_auto.dicom.series.series_words import read_words

# Scanning sequence, repetition time, echo time, inversion time (ms) as they come with such scans.
FLAIR = ("SE IR", 9000, 100, 2500)
FLAIR_3D = ("SE IR", 5000, 387, 1800)
SE_T1 = ("SE", 500, 10, None)
MPRAGE = ("GR IR", 2300, 2.98, 900)
SPOILED = ("GR", 8.2, 3.2, None)
SE_T2 = ("SE", 4500, 100, None)
HASTE = ("SE", 1400, 90, None)
EPI = ("EP SE", 6000, 90, None)
EPI_GR = ("EP GR", 2000, 30, None)
T2_STAR = ("GR", 600, 20, None)
SCOUT = ("GR", 8.6, 4.0, None)
DUAL = ("SE", 3800, 12, None)

# Maker or language, description, protocol, what was measured, number of images, kind.
SERIES = [
    # What the words of a protocol or of a finding must not overrule.
    ("any", "T2 FLAIR (diffuse lesion protocol)", "", FLAIR, 31, "FLAIR"),
    ("any", "FLAIR sub-acute stroke", "", FLAIR, 31, "FLAIR"),
    ("any", "T2 FLAIR LOC", "", FLAIR, 31, "FLAIR"),
    ("any", "FLAIR angio protocol", "", FLAIR, 31, "FLAIR"),
    ("any", "AX FLAIR trace", "", FLAIR, 31, "FLAIR"),
    ("any", "FLAIR survey", "", FLAIR, 31, "FLAIR"),
    ("any", "Ax T2 FLAIR", "", FLAIR, 31, "FLAIR"),
    ("any", "brain survey", "", FLAIR, 31, "FLAIR"),
    ("any", "angio protocol", "", FLAIR, 31, "FLAIR"),
    ("any", "STROKE DIFFUSION PROTOCOL", "", FLAIR, 31, "FLAIR"),
    ("any", "T2 subacute infarct, diffusely swollen", "", SE_T2, 24, "T2"),
    ("any", "T1 localised lesion follow-up", "", SE_T1, 24, "T1"),
    ("any", "T2 TSE trace of blood?", "", SE_T2, 24, "T2"),
    ("any", "T1 perfusion protocol", "", SE_T1, 24, "T1"),
    ("any", "T1 angio", "", SE_T1, 24, "T1"),
    ("any", "P1_T1_T2", "", SE_T2, 24, "T2"),
    ("any", "visit T2 T1 SE", "", SE_T1, 24, "T1"),
    ("any", "T1 fallback scout area", "", MPRAGE, 176, "T1"),
    # After an agent, or after something else.
    ("any", "AX T1 POST OP", "", SE_T1, 24, "T1"),
    ("any", "AX T1 POST", "", SE_T1, 24, "T1"),
    ("any", "T1 SE post surgery", "", SE_T1, 24, "T1"),
    ("any", "t1 posterior fossa", "", SE_T1, 24, "T1"),
    ("any", "AX T1 POST GD", "", SE_T1, 24, "T1C"),
    ("any", "AX T1 W/O CONTRAST", "", SE_T1, 24, "T1"),
    ("any", "AX T1 NON CONTRAST", "", SE_T1, 24, "T1"),
    ("any", "AX T1 pre-contrast", "", SE_T1, 24, "T1"),
    ("any", "AX T1 POST CONTRAST", "", SE_T1, 24, "T1C"),
    ("any", "AX T1 FS+C", "", SE_T1, 24, "T1C"),
    ("any", "T1 phase contrast reference", "", SE_T1, 24, "T1"),
    ("any", "T1 post-op, no gad", "", SE_T1, 24, "T1"),
    ("any", "T1CE", "", SE_T1, 24, "T1C"),
    ("any", "T1 SUB post - pre", "", SE_T1, 24, "derived"),
    # Siemens
    ("Siemens", "t2_tirm_tra_dark-fluid_4mm", "", FLAIR, 24, "FLAIR"),
    ("Siemens", "t2_space_dark-fluid_sag_p2_iso", "", FLAIR_3D, 176, "FLAIR"),
    ("Siemens", "t2_spc_da-fl_sag_p2_iso", "", FLAIR_3D, 176, "FLAIR"),
    ("Siemens", "t1_mprage_sag_p2_iso", "", MPRAGE, 176, "T1"),
    ("Siemens", "t1_fl2d_tra", "", ("GR", 250, 2.5, None), 24, "T1"),
    ("Siemens", "t2_fl2d_tra_hemo", "", ("GR", 800, 25, None), 24, "SWI"),
    ("Siemens", "t2_tse_tra_512", "", SE_T2, 24, "T2"),
    ("Siemens", "pd+t2_tse_tra", "", DUAL, 24, "PD"),
    ("Siemens", "ep2d_diff_3scan_trace_p2", "", EPI, 60, "DWI"),
    ("Siemens", "ep2d_diff_3scan_trace_p2_ADC", "", EPI, 24, "ADC"),
    ("Siemens", "ep2d_perf_p2", "", EPI_GR, 800, "other"),
    ("Siemens", "AAHead_Scout", "", SCOUT, 128, "localiser"),
    ("Siemens", "localizer", "", SCOUT, 9, "localiser"),
    ("Siemens", "TOF_3D_multi-slab", "", ("GR", 22, 7, None), 120, "other"),
    ("Siemens", "SWI_Images", "", ("GR", 28, 20, None), 72, "SWI"),
    ("Siemens", "mIP_Images(SW)", "", ("GR", 28, 20, None), 66, "derived"),
    ("Siemens", "t2_spc_dir_sag_iso", "", ("SE IR", 7500, 325, 3000), 160, "other"),
    # GE
    ("GE", "Sag CUBE FLAIR", "", ("RM", 6502, 120, 1870), 176, "FLAIR"),
    ("GE", "Ax T2 FLAIR Propeller", "", ("RM", 9000, 120, 2250), 24, "FLAIR"),
    ("GE", "Ax 3D BRAVO", "", ("GR", 8.2, 3.2, 450), 160, "T1"),
    ("GE", "Ax T1 FLAIR", "", ("RM", 2500, 22, 1000), 24, "T1"),
    ("GE", "AX FSPGR 3D +C", "", SPOILED, 160, "T1C"),
    ("GE", "Ax DWI b=1000", "", EPI, 48, "DWI"),
    ("GE", "Ax SWAN", "", ("GR", 38, 24, None), 120, "SWI"),
    ("GE", "3-Pl Loc", "", SCOUT, 15, "localiser"),
    ("GE", "3Plane Loc SSFSE", "", HASTE, 15, "localiser"),
    ("GE", "AX T2* GRE", "", T2_STAR, 24, "SWI"),
    # Philips
    ("Philips", "sT2W/FLAIR", "", ("IR", 9000, 100, 2500), 24, "FLAIR"),
    ("Philips", "3D_Brain_VIEW_FLAIR_SHC", "", ("IR", 4800, 282, 1650), 180, "FLAIR"),
    ("Philips", "sT1W_3D_TFE", "", ("GR", 7.6, 3.5, None), 160, "T1"),
    ("Philips", "T1/SE/extrp", "", SE_T1, 22, "T1"),
    ("Philips", "WIP eT1W_3D_TFE GADO", "", ("GR", 7.6, 3.5, None), 160, "T1C"),
    ("Philips", "SURVEY", "", SCOUT, 9, "localiser"),
    ("Philips", "SmartBrain", "", SCOUT, 30, "localiser"),
    ("Philips", "DWI_SSh", "", EPI, 48, "DWI"),
    ("Philips", "dReg - DWI_SSh", "", EPI, 48, "DWI"),
    ("Philips", "T2W_FFE", "", T2_STAR, 24, "SWI"),
    ("Philips", "T2W_TSE DRIVE", "", SE_T2, 24, "T2"),
    ("Philips", "DWI_TSE", "", ("SE", 5000, 80, None), 24, "DWI"),
    # Canon
    ("Canon", "AX FLAIR FSE+15", "", ("SE IR", 10000, 105, 2700), 24, "FLAIR"),
    ("Canon", "T1W SE", "Head", SE_T1, 24, "T1"),
    ("Canon", "FE3D_MPRAGE", "", ("GR IR", 6.2, 3.2, 900), 160, "T1"),
    ("Canon", "FSE2D T2 AX", "", SE_T2, 24, "T2"),
    ("Canon", "MRA TOF", "", ("GR", 24, 6.8, None), 150, "other"),
    # German
    ("German", "T1 nativ", "", SE_T1, 24, "T1"),
    ("German", "t1_se_tra nativ (ohne KM)", "", SE_T1, 24, "T1"),
    ("German", "t1_tse_tra vor KM", "", SE_T1, 24, "T1"),
    ("German", "t1_se_tra nach KM", "", SE_T1, 24, "T1C"),
    ("German", "t1_se_tra +KM", "", SE_T1, 24, "T1C"),
    ("German", "T1 Kontrastmittel", "", SE_T1, 24, "T1C"),
    ("German", "Übersicht", "", SCOUT, 9, "localiser"),
    ("German", "FLAIR tra, subakuter Infarkt", "", FLAIR, 24, "FLAIR"),
    ("German", "Angio Protokoll T2 tra", "", SE_T2, 24, "T2"),
    # French
    ("French", "T1 sans injection", "", SE_T1, 24, "T1"),
    ("French", "T1 après injection", "", SE_T1, 24, "T1C"),
    ("French", "T1 EG avec gado", "", SPOILED, 160, "T1C"),
    ("French", "Repérage", "", SCOUT, 9, "localiser"),
    ("French", "AX FLAIR protocole diffusion", "", FLAIR, 24, "FLAIR"),
    ("French", "Diffusion b1000", "", EPI, 24, "DWI"),
    ("French", "DP T2 double écho", "", DUAL, 24, "PD"),
    # Spanish
    ("Spanish", "T1 sin contraste", "", SE_T1, 24, "T1"),
    ("Spanish", "T1 con contraste", "", SE_T1, 24, "T1C"),
    ("Spanish", "AX FLAIR lesiones difusas", "", FLAIR, 24, "FLAIR"),
    ("Spanish", "Localizador", "", SCOUT, 9, "localiser"),
    ("Spanish", "Difusión", "", EPI, 24, "DWI"),
    # The protocol's name speaks where the description doesn't.
    ("any", "Head Routine", "t2_tse_tra", SE_T2, 24, "T2"),
    ("any", "", "survey", SCOUT, 9, "localiser"),
    ("any", "T2 TSE", "diffusion and angio", SE_T2, 24, "T2"),
]


@pytest.mark.parametrize("series", SERIES, ids=lambda series: f"{series[0]}:{series[1] or series[2]}".replace(" ", "_"))
def test_a_series_is_what_was_measured(series: tuple) -> None:
    _, description, protocol, (sequence, repetition, echo, inversion), images, kind = series
    found = classify(
        SequenceFacts(
            description=description,
            protocol_name=protocol,
            scanning_sequence=tuple(sequence.split()),
            repetition_time=repetition,
            echo_time=echo,
            inversion_time=inversion,
            image_type=("ORIGINAL", "PRIMARY", "M"),
            images=images,
            orientation="axial",
        )
    )
    assert found.kind == kind, found
    assert found.confidence >= 0.4


def test_there_are_enough_of_them() -> None:
    assert len(SERIES) >= 60
    assert {"Siemens", "GE", "Philips", "Canon", "German", "French", "Spanish"} <= {series[0] for series in SERIES}


def test_diffusion_that_was_measured_is_none_whatever_its_name() -> None:
    facts = SequenceFacts("T2 FLAIR", scanning_sequence=("EP", "SE"), echo_time=90, repetition_time=6000, b_value=1000.0)
    assert classify(facts).kind == "DWI"


def test_a_localiser_in_several_directions_is_one_even_if_it_names_its_contrast() -> None:
    facts = SequenceFacts(
        description="T1 loc", scanning_sequence=("GR",), echo_time=4, repetition_time=8.6, images=45, orientation="several"
    )
    assert classify(facts).kind == "localiser"


def test_a_bare_post_is_mentioned() -> None:
    facts = {"scanning_sequence": ("SE",), "echo_time": 10, "repetition_time": 500}
    found = classify(SequenceFacts(description="AX T1 POST", **facts))
    assert "its name says post" in found.reason
    assert found.confidence < classify(SequenceFacts(description="AX T1", **facts)).confidence
    assert "post" not in classify(SequenceFacts(description="AX T1 POST OP", **facts)).reason


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("T1_T2", "T2"),
        ("T2_T1", "T1"),
        ("T1 T2 FLAIR", "FLAIR"),
        ("FLAIR T2", "FLAIR"),
        ("post1", None),
        ("test1 cut2", None),
        ("level T12", None),
        ("diffuse", None),
        ("subacute", None),
        ("location", None),
        ("blocked", None),
        ("planes", None),
        ("boldness", None),
        ("tracer", None),
    ],
)
def test_words_count_whole_and_the_last_contrast_wins(text: str, kind: str | None) -> None:
    assert read_words(text).kind == kind
