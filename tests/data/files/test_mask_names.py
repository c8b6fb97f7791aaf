"""Masks that are known by the names of their files and folders, in the layouts of public sets."""

from pathlib import Path

import pytest

from medgan_pl.data.files.mask_names import is_mask_name, masks_among

UID = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("kits/case_{}/imaging.nii.gz", "kits/case_{}/segmentation.nii.gz"),
        ("volume-{}.nii", "segmentation-{}.nii"),
        ("volume-{}.nii.gz", "labels-{}.nii.gz"),  # CT-ORG
        ("img/img{}.nii.gz", "label/label{}.nii.gz"),
        ("rawdata/v{0}/v{0}_ct.nii.gz", "derivatives/v{0}/v{0}_seg-vert_msk.nii.gz"),
        ("s{}/ct.nii.gz", "s{}/segmentations/lung_upper_lobe_left.nii.gz"),
        (f"{UID}{{}}.nii.gz", f"{UID}{{}}_seg.nii.gz"),
        ("sub-{0}/anat/sub-{0}_acq-0.8mm_T1w.nii.gz", "sub-{0}/anat/sub-{0}_acq-0.8mm_T1w_label.nii.gz"),
        ("sub-{0}/anat/sub-{0}_T1w.nii.gz", "sub-{0}/anat/sub-{0}_space-T1w_desc-aseg_dseg.nii.gz"),
        ("p{}/T1.nii.gz", "p{}/mask.nii.gz"),
        ("p{}/T1.nii.gz", "p{}/T1_brainmask.nii.gz"),
        ("p{}/T1.mgz", "p{}/aparc.DKTatlas+aseg.mgz"),
        ("p{}/norm.nii.gz", "p{}/aseg.nii.gz"),
        ("p{0}/p{0}_frame01.nii.gz", "p{0}/p{0}_frame01_gt.nii.gz"),  # ACDC
        ("IBSR_{0}/IBSR_{0}_ana.nii.gz", "IBSR_{0}/IBSR_{0}_segTRI_ana.nii.gz"),
        ("imagesTr/c_{}_0000.nii.gz", "labelsTr/c_{}.nii.gz"),
        ("CXR_png/CHN_{}_0.png", "masks/CHN_{}_0_mask.png"),
        ("CXR_png/MCU_{}_0.png", "ManualMask/leftMask/MCU_{}_0.png"),
        ("Normal/images/n{}.png", "Normal/lung masks/n{}.png"),
        ("films/{}.png", "Mask/{}.png"),
        ("benign/benign ({}).png", "benign/benign ({})_mask_1.png"),
        ("QaTa/Images/c_{}.png", "QaTa/Ground-truths/mask_c_{}.png"),
        ("ct_scans/{}.nii", "Lung_and_Infection_Mask/{}.nii"),
        ("p{}/T1_brain.nii.gz", "p{}/T1_brain_pve_1.nii.gz"),  # maps of shares: FSL, SPM, CAT12, nnU-Net
        ("p{}/T1.nii.gz", "p{}/T1_first_all_fast_firstseg.nii.gz"),
        ("p{}/t1.nii", "p{}/mwp1t1.nii"),
        ("p{}/t1.nii", "p{}/rc2t1.nii"),
        ("p{}/t1.nii", "p{}/csf.nii"),
        ("imagesTr/c_{}_0000.nii.gz", "softmax/c_{}.nii.gz"),
        ("imagesTr/c_{}_0000.nii.gz", "out/c_{}_prob.nii.gz"),
        ("imagesTr/c_{}_0000.nii.gz", "scribblesTr/c_{}.nii.gz"),  # WORD
        ("images/{}.png", "gts/{}.png"),  # MedSAM
        ("images/{}.png", "heatmaps/{}.png"),
        ("sub-{0}/anat/sub-{0}_T1w.nii.gz", "sub-{0}/anat/sub-{0}_from-T1w_to-MNI_mode-image_xfm.nii.gz"),
    ],
)
def test_masks_of_public_layouts(images, masks) -> None:
    real, drawn = ([Path(name.format(f"00{i}")) for i in range(3)] for name in (images, masks))
    assert masks_among([*real, *drawn]) == {*drawn}
    assert masks_among(drawn, lambda name: True) == set()  # no image is there, or the user wants them
    assert masks_among([*real, *drawn], lambda name: Path(name) in drawn) == set()
    assert masks_among([*real, *drawn], lambda name: True) == {*drawn}


@pytest.mark.parametrize(
    "name",
    ["IM-0439-0001", "person1_virus_6", "T1_masked", "NORMAL2-IM-0441", "00000013_005", "sub-01_ses-2_T1w", "BraTS20_Training_001_t1ce",
     "segal", "msseg", "wp", "rc10", "p1t1", "gmail", "Lung_Segmentation_Data", "images_and_masks", "unmasked", "gtx1080", "no_mask"],
)  # fmt: skip
def test_names_of_images(name) -> None:
    assert not is_mask_name(name)


def test_a_folder_of_everything_says_nothing() -> None:
    paths = [Path("liver_segmentation/a/1.png"), Path("liver_segmentation/b/2.png")]
    assert masks_among(paths) == set()
    parts = [Path("lung segmentation 1/v-1.nii"), Path("lung segmentation 2/v-2.nii"), Path("lung segmentation 1/v-1_seg.nii")]
    assert masks_among(parts) == {parts[2]}
