"""How people name scans: public datasets, converters, scanners, hospitals; a line is a file and what its name tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmccd_auto.sources.named_files import read_names
from mmccd_auto.sources.nifti_cases import list_nifti_cases

# path (without .nii.gz), modality, case, person
SCANS = [
    # BIDS
    ("sub-01/anat/sub-01_T1w", "T1", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_T2w", "T2", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_FLAIR", "FLAIR", "sub-01", "sub-01"),
    ("sub-01/ses-1/anat/sub-01_ses-1_FLAIR", "FLAIR", "sub-01_ses-1", "sub-01"),
    ("sub-01/ses-post/anat/sub-01_ses-post_T1w", "T1", "sub-01_ses-post", "sub-01"),
    ("sub-01/ses-preop/anat/sub-01_ses-preop_T1w", "T1", "sub-01_ses-preop", "sub-01"),
    ("sub-01/ses-T1/anat/sub-01_ses-T1_T2w", "T2", "sub-01_ses-T1", "sub-01"),
    ("sub-T2/anat/sub-T2_T1w", "T1", "sub-T2", "sub-T2"),
    ("sub-01/anat/sub-01_run-1_T1w", "T1", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_acq-mprage_T1w", "T1", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_acq-highres_rec-norm_T2w", "T2", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_ce-gadolinium_T1w", "T1C", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_ce-none_T1w", "T1", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_acq-postgd_T1w", "T1C", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_acq-pre_T1w", "T1", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_desc-preproc_T1w", "T1", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_space-T1w_desc-preproc_FLAIR", "FLAIR", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_space-MNI152NLin2009cAsym_T2w", "T2", "sub-01", "sub-01"),
    ("sub-NDARAA948VFH/anat/sub-NDARAA948VFH_acq-HCP_T1w", "T1", "sub-NDARAA948VFH", "sub-NDARAA948VFH"),
    ("sub-01/anat/sub-01_T2-FLAIR", "FLAIR", "sub-01", "sub-01"),
    ("sub-01/anat/sub-01_UNIT1", "T1", "sub-01", "sub-01"),
    # BraTS 2017 to 2023
    ("Brats17_TCIA_105_1/Brats17_TCIA_105_1_flair", "FLAIR", "Brats17_TCIA_105_1", "Brats17_TCIA_105_1"),
    ("Brats18_2013_2_1/Brats18_2013_2_1_t1ce", "T1C", "Brats18_2013_2_1", "Brats18_2013_2_1"),
    ("BraTS20_Training_001/BraTS20_Training_001_t1", "T1", "BraTS20_Training_001", "BraTS20_Training_001"),
    ("BraTS2021_00006/BraTS2021_00006_t2", "T2", "BraTS2021_00006", "BraTS2021_00006"),
    ("BraTS-GLI-00005-000/BraTS-GLI-00005-000-t1c", "T1C", "BraTS-GLI-00005-000", "BraTS-GLI-00005-000"),
    ("BraTS-GLI-00005-000/BraTS-GLI-00005-000-t1n", "T1", "BraTS-GLI-00005-000", "BraTS-GLI-00005-000"),
    ("BraTS-GLI-00005-000/BraTS-GLI-00005-000-t2f", "FLAIR", "BraTS-GLI-00005-000", "BraTS-GLI-00005-000"),
    ("BraTS-GLI-00005-000/BraTS-GLI-00005-000-t2w", "T2", "BraTS-GLI-00005-000", "BraTS-GLI-00005-000"),
    # WMH challenge, ISBI 2015, MSSEG, MSLesSeg, Ljubljana, open MS data
    ("Utrecht/0/orig/FLAIR", "FLAIR", "Utrecht_0_orig", "Utrecht_0"),
    ("Utrecht/0/pre/T1", "T1", "Utrecht_0_pre", "Utrecht_0"),
    ("Utrecht/0/orig/3DT1", "T1", "Utrecht_0_orig", "Utrecht_0"),
    ("training01/preprocessed/training01_02_flair_pp", "FLAIR", "training01_02_pp", "training01"),
    ("training01/preprocessed/training01_02_mprage_pp", "T1", "training01_02_pp", "training01"),
    ("training01/orig/training01_01_t2", "T2", "training01_01", "training01"),
    ("Center_01/Patient_02/Raw_Data/3DFLAIR", "FLAIR", "Center_01_Patient_02_Raw_Data", None),
    ("P1/T2/P1_T2_T1", "T1", "P1_T2", "P1"),
    ("P1/T1/P1_T1_FLAIR", "FLAIR", "P1_T1", "P1"),
    ("P1/T1/P1_T1_T2", "T2", "P1_T1", "P1"),
    ("P7_T3_FLAIR", "FLAIR", "P7_T3", "P7"),
    ("patient01/patient01_FLAIR", "FLAIR", "patient01", "patient01"),
    ("patient01_study1_FLAIR", "FLAIR", "patient01_study1", "patient01"),
    ("MSlong12_study2/FLAIR", "FLAIR", "MSlong12_study2", "MSlong12"),
    ("lesions_03_study2_T1W", "T1", "lesions_03_study2", "lesions_03"),
    # UPENN-GBM, UCSF-PDGM, LUMIERE, TCGA
    ("UPENN-GBM-00001_11_FLAIR", "FLAIR", "UPENN-GBM-00001_11", "UPENN-GBM-00001_11"),
    ("UPENN-GBM-00001_11_T1GD", "T1C", "UPENN-GBM-00001_11", "UPENN-GBM-00001_11"),
    ("UPENN-GBM-00001_11_T1_unstripped", "T1", "UPENN-GBM-00001_11_unstripped", "UPENN-GBM-00001_11"),
    ("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_T1c", "T1C", "UCSF-PDGM-0004", "UCSF-PDGM-0004"),
    ("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_FLAIR_bias", "FLAIR", "UCSF-PDGM-0004_bias", "UCSF-PDGM-0004"),
    ("Patient-001/week-000-1/CT1", "T1C", "Patient-001_week-000-1", "Patient-001"),
    ("Patient-001/week-000-1/FLAIR", "FLAIR", "Patient-001_week-000-1", "Patient-001"),
    ("TCGA-FG-6692/T1c", "T1C", "TCGA-FG-6692", "TCGA-FG-6692"),
    # ADNI, OASIS, IXI, HCP, Kirby
    ("ADNI_002_S_0295_MR_MPRAGE_br_raw_20070525135721841_1_S13408_I45107", "T1", None, None),
    ("002_S_0295_m12_FLAIR", "FLAIR", "002_S_0295_m12", "002_S_0295"),
    ("OAS1_0001_MR1/OAS1_0001_MR1_mpr-1_anon", "T1", "OAS1_0001_MR1_anon", None),
    ("OAS30001_MR_d0129/sub-OAS30001_ses-d0129_T1w", "T1", "sub-OAS30001_ses-d0129", "sub-OAS30001"),
    ("OAS2_0002_MR3/mpr-2", "T1", "OAS2_0002_MR3", "OAS2_0002"),
    ("IXI-T1/IXI002-Guys-0828-T1", "T1", "IXI002-Guys-0828", "IXI002-Guys-0828"),
    ("IXI-T2/IXI002-Guys-0828-T2", "T2", "IXI002-Guys-0828", "IXI002-Guys-0828"),
    ("100307/T1w/T1w_acpc_dc_restore", "T1", "acpc_dc_restore", None),
    ("100307/unprocessed/3T/T1w_MPR1/100307_3T_T1w_MPR1", "T1", None, None),
    ("100307/unprocessed/3T/T2w_SPC1/100307_3T_T2w_SPC1", "T2", None, None),
    ("KKI2009-01-MPRAGE", "T1", "KKI2009-01", "KKI2009-01"),
    ("KKI2009-01-FLAIR", "FLAIR", "KKI2009-01", "KKI2009-01"),
    # dcm2niix by default, and vendor protocols
    ("DICOM_t1_mprage_sag_p2_iso_20200101120000_5", "T1", "DICOM_20200101120000", None),
    ("DICOM_t2_space_dark-fluid_sag_p2_iso_20200101120000_7", "FLAIR", "DICOM_20200101120000", None),
    ("DICOM_t2_tirm_tra_dark-fluid_20200101120000_4a", "FLAIR", "DICOM_20200101120000", None),
    ("anna/t2_tse_tra_512", "T2", None, None),
    ("anna/t2_blade_tra", "T2", "anna", "anna"),
    ("anna/t1_se_tra_km", "T1C", "anna", "anna"),
    ("anna/t1_mprage_sag_p2_iso_KM", "T1C", "anna", "anna"),
    ("anna/t2_space_flair_sag", "FLAIR", "anna", "anna"),
    ("anna/SAG_3D_FSPGR", "T1", "anna", "anna"),
    ("anna/Ax_T2_PROPELLER", "T2", "anna", "anna"),
    ("anna/Sag_T2_CUBE_FLAIR", "FLAIR", "anna", "anna"),
    ("anna/Ax_T2_FLAIR", "FLAIR", "anna", "anna"),
    ("anna/AX_T1_POST_GD", "T1C", "anna", "anna"),
    ("anna/3D_BRAVO", "T1", "anna", "anna"),
    ("anna/T1W_3D_TFE_SENSE", "T1", "anna", "anna"),
    ("anna/T2W_TSE", "T2", "anna", "anna"),
    ("anna/3D_VIEW_FLAIR_SHC", "FLAIR", None, None),
    ("anna/mp2rage_UNI", "T1", "anna", "anna"),
    # nnU-Net and folders by modality
    ("case_0001_FLAIR", "FLAIR", "case_0001", "case_0001"),
    ("FLAIR/anna", "FLAIR", "anna", "anna"),
    ("T1/anna", "T1", "anna", "anna"),
    ("anna/T1w/scan", "T1", "scan", None),
    ("anna/t2_flair/image", "FLAIR", "image", None),
    # hospitals and people
    ("anna_T1", "T1", "anna", "anna"),
    ("T1_anna", "T1", "anna", "anna"),
    ("flair_p2", "FLAIR", "p2", "p2"),
    ("P2_FLAIR", "FLAIR", "P2", "P2"),
    ("José_FLAIR", "FLAIR", "José", "José"),
    ("山田_T1", "T1", "山田", "山田"),
    ("Müller (2)_FLAIR", "FLAIR", "Müller (2)", "Müller (2)"),
    ("anna_T1_pre_contrast", "T1", "anna", "anna"),
    ("anna_T1_post_contrast", "T1C", "anna", "anna"),
    ("anna_T1+C", "T1C", "anna", "anna"),
    ("anna_T1post", "T1C", "anna", "anna"),
    ("anna_T1_post", "T1", "anna_post", "anna"),
    ("anna_T1_POST OP", "T1", "anna_POST OP", "anna"),
    ("anna_ceT1", "T1C", "anna", "anna"),
    ("anna_T1_with_contrast", "T1C", "anna", "anna"),
    ("anna_T1_without_contrast", "T1", "anna", "anna"),
    ("anna_20190203_FLAIR", "FLAIR", "anna_20190203", "anna"),
    ("anna_2019-02-03_FLAIR", "FLAIR", "anna_2019-02-03", "anna"),
    ("anna_baseline_FLAIR", "FLAIR", "anna_baseline", "anna"),
    ("anna/followup2/FLAIR", "FLAIR", "anna_followup2", "anna"),
    ("anna/year1/T2", "T2", "anna_year1", "anna"),
    ("baseline/anna/FLAIR", "FLAIR", "baseline_anna", "anna"),
    ("anna_tp2_T2FLAIR", "FLAIR", "anna_tp2", "anna"),
    ("anna_visit2_T2_FLAIR", "FLAIR", "anna_visit2", "anna"),
    ("anna_FLAIR_3D", "FLAIR", "anna", "anna"),
    ("anna_FLAIR_to_T1", "FLAIR", "anna", "anna"),
    ("rFLAIR_anna", "FLAIR", "anna", "anna"),
    ("SEG_001_FLAIR", "FLAIR", "SEG_001", "SEG_001"),
    ("MD_007_FLAIR", "FLAIR", "MD_007", "MD_007"),
]
# path, kind: no scan of the head's anatomy, whatever else the name holds
OTHERS = [
    ("sub-01/anat/sub-01_T2starw", "T2STAR"),
    ("sub-01/anat/sub-01_part-phase_T2starw", "phase image"),
    ("sub-01/anat/sub-01_T1map", "map"),
    ("sub-01/anat/sub-01_PDw", "PD"),
    ("sub-01/anat/sub-01_inv-1_part-mag_MP2RAGE", "T1"),
    ("sub-01/func/sub-01_task-rest_bold", "bold"),
    ("sub-01/func/sub-01_task-rest_sbref", "DWI"),
    ("sub-01/dwi/sub-01_dir-AP_dwi", "DWI"),
    ("sub-01/fmap/sub-01_phasediff", "field map"),
    ("sub-01/fmap/sub-01_magnitude1", "field map"),
    ("sub-01/fmap/sub-01_dir-PA_epi", "bold"),
    ("sub-01/perf/sub-01_asl", "perfusion"),
    ("sub-01/perf/sub-01_m0scan", "perfusion"),
    ("UPENN-GBM-00001_11_ASL", "perfusion"),
    ("UCSF-PDGM-0004_DTI_eddy_FA", "DWI"),
    ("UCSF-PDGM-0004_SWI", "SWI"),
    ("UCSF-PDGM-0004_ADC", "ADC"),
    ("IXI002-Guys-0828-PD", "PD"),
    ("IXI002-Guys-0828-MRA", "angiography"),
    ("anna/t2_fl2d_tra_hemo", "T2STAR"),
    ("anna/t2_star", "T2STAR"),
    ("anna/ep2d_diff_b1000", "DWI"),
    ("anna/tof_fl3d_tra", "angiography"),
    ("anna/T1_map", "map"),
    ("anna/t2_stir_cor", "other"),
    ("mwp1T1_anna", "tissue map"),
    ("c1sub-01_T1w", "tissue map"),
]
MASKS = [
    "anna_FLAIR_seg",
    "BraTS2021_00006_seg",
    "UPENN-GBM-00001_11_segm",
    "UCSF-PDGM-0004_brain_segmentation",
    "training01_02_mask1",
    "Utrecht/0/wmh",
    "sub-01/anat/sub-01_label-lesion_mask",
    "sub-01/anat/sub-01_dseg",
    "labelsTr/anna",
    "tissue_labels_T1",
    "anna_lesion_mask_FLAIR",
    "anna_ROI",
    "anna_consensus",
]
DOUBTFUL = [
    "AX_T1_FLAIR",
    "t1_tirm_tra_dark-fluid",
    "anna_FLAIR_T1",
    "anna_pd_t2",
    "t2_tirm_cor",
    "anna_T1_C",
    "anna_T2_T1space",
]


def write(root: Path, names: list[str]) -> Path:
    """Empty files, for only names are looked at."""
    for name in names:
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


@pytest.mark.parametrize(("name", "modality", "case", "person"), SCANS, ids=[scan[0].replace("/", ">") for scan in SCANS])
def test_a_scan_is_what_people_call_it(tmp_path, name, modality, case, person):
    listing = list_nifti_cases(write(tmp_path, [name]), [modality], alone=True)
    (found,) = listing.cases
    assert found.error is None
    assert found.scans[modality].modality == modality
    assert case in (None, found.name)
    assert person in (None, found.subject)


@pytest.mark.parametrize(("name", "kind"), OTHERS)
def test_what_is_no_anatomical_scan_is_never_taken_for_one(tmp_path, name, kind):
    write(tmp_path, [name])
    (found,) = read_names(tmp_path, [tmp_path / f"{name}.nii.gz"])
    assert found.modality == kind


@pytest.mark.parametrize("name", MASKS)
def test_labels_and_masks_are_no_scans(tmp_path, name):
    write(tmp_path, [name, "bert_FLAIR"])
    listing = list_nifti_cases(tmp_path, ["FLAIR"], alone=True)
    assert [case.name for case in listing.cases] == ["bert"]
    assert "a label or mask by its name" in listing.left_out[0].reason


@pytest.mark.parametrize("name", DOUBTFUL)
def test_a_name_that_can_be_read_in_two_ways_is_refused_by_saying_so(tmp_path, name):
    write(tmp_path, [name])
    (found,) = list_nifti_cases(tmp_path, ["FLAIR", "T1", "T2"]).cases
    assert found.scans == {}
    assert name in found.error
    assert "give it a name with one modality" in found.error
