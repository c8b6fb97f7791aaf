"""Follow-ups of one person: known naming schemes join them, and other names that look like them are doubted."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_records import listed, picture

from medgan_pl.data.files.people import doubts, person

UID, VISIT = "1.2.826.0.1.3680043.8.498.", "{}_2006{:02d}{:02d}/T1.nii.gz"


@pytest.mark.parametrize(
    ("inner", "who"),
    [
        ("BraTS-GLI-00005-000/BraTS-GLI-00005-000-t1n.nii.gz", "BraTS-GLI-00005"),
        ("BraTS-MET-00002-001_0000.nii.gz", "BraTS-MET-00002"),
        ("BraTS2021_00005/BraTS2021_00005_flair.nii.gz", "BraTS2021_00005"),
        ("BraTS20_Training_012_t1.nii", "BraTS20_Training_012"),
        ("Brats18_CBICA_AAB_1/Brats18_CBICA_AAB_1_t1.nii.gz", "Brats18_CBICA_AAB"),
        ("sub001_ses0/T1.nii.gz", "sub001"),
        ("P12-visit_3.nii.gz", "P12"),
        ("anna_baseline.nii.gz", "anna"),
        ("anna_FU2/T1.nii.gz", "anna"),
        ("jane/T1_ses1.nii.gz", "jane"),  # the visit is the file's, not the folder's
        ("ADNI_002_S_0295_MR_MPRAGE_Br_20060418193713091_S13408_I13722.nii", "002_S_0295"),
        ("ADNI/002_S_0295/MPRAGE/2006-04-18/I13722.nii", "002_S_0295"),
        ("OAS1_0001_MR1.nii.gz", "OAS1_0001"),
        ("OAS2_0001_MR2/RAW/mpr-1.nii", "OAS2_0001"),
        ("OAS30001_MR_d0129/anat2/x.nii.gz", "OAS30001"),
        ("sub-OAS30001_ses-d0129_T1w.nii.gz", "sub-OAS30001"),
        ("sub-S03044/ses-E07986/mod-rx/sub-S03044_ses-E07986_cr.png", "sub-S03044"),
        ("IXI002-Guys-0828-T1.nii.gz", "IXI002"),
        ("PPMI_3102_MR_T1_20110101.nii", "PPMI_3102"),
        ("miriad_188_AD_M_01_MR_1.nii", "miriad_188"),
        ("100307_3T_T1w_MPR1.nii.gz", "100307"),
        ("UPENN-GBM-00001_11_T1.nii.gz", "UPENN-GBM-00001"),
        ("UCSF-PDGM-0004_FU003d/T1.nii.gz", "UCSF-PDGM-0004"),
        ("LIDC-IDRI-0001/01-01-2000-30178/1-01.nii", "LIDC-IDRI-0001"),
        ("TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif", "TCGA_CS_4941"),
        ("10000_1000000_t2w.mha", "10000"),
        ("files/p10/p10000032/s50414267/02aa804e.jpg", "p10000032"),
        ("patient00001/study1/view1_frontal.jpg", "patient00001"),
        ("00000013_005.png", "00000013"),
        ("216840111366964012989926673512011068152834580_00-163-058.png", "216840111366964012989926673512011068152834580"),
        ("Calc-Training_P_00005_RIGHT_CC_1.png", "P_00005"),
        ("20586908_6c613a14b80a8591_MG_R_CC_ANON.png", "6c613a14b80a8591"),
        ("0001_1297860395_01_WRI-L1_M014.png", "0001"),
        ("BACTERIA-7422-0001.jpeg", "7422"),
        ("subject-9-T1.img", "subject-9"),
        ("site2/Patient_07/CT.nii.gz", "Patient_07"),
        ("scan_003_subj017.png", "subj017"),
        ("pt_1/ct.nii.gz", "pt_1"),
        # One scan each, or no name of a person: as they are.
        ("amos_0001.nii.gz", None),
        ("BRATS_485.nii.gz", None),
        ("LUNG1-001.nii.gz", "LUNG1-001"),
        ("COVID-1.png", None),
        ("IM-0001-0002", None),  # a DICOM of an export: a series, not a person
        ("visit1_1.png", None),
        ("outpatient_12.png", None),
        ("patient12b.png", None),  # doubted, see below
        ("film_2021_0003.png", None),
    ],
)
def test_known_names(inner, who):
    assert person(inner) == who


@pytest.mark.parametrize(
    ("names", "people", "kind"),
    [
        ([f"{i:03d}-{t}.png" for i in range(12) for t in range(2)], 12, "a last number"),
        ([f"case{i}_slice{j:03d}.png" for i in range(12) for j in range(15)], 12, "their last words"),
        ([f"case{i}_{c}.nii.gz" for i in range(6) for c in ("T1", "FLAIR")], 6, "their last words"),
        ([f"patient{i}{c}.nii.gz" for i in range(6) for c in ("T1", "T2")], 6, "their last words"),
        ([f"{i:04d}_{side}_{view}.png" for i in range(9) for side in "LR" for view in ("CC", "MLO")], 9, "their last words"),
        ([VISIT.format(i, month, i + 1) for i in range(9) for month in (3, 5)], 9, "a last date"),
        ([f"P{i:03d}.nrrd" for i in range(30)] + [f"P{i:03d}_2.nrrd" for i in range(3)], 30, "a last number"),
    ],
)
def test_groups_of_names_are_doubted_and_the_proposed_key_joins_them(names, people, kind):
    (doubt,) = doubts(names)
    count = len({name.partition("/")[0] for name in names})
    assert doubt.startswith(f"{count} patients by their names may be {people} people: groups of names differ only in {kind};")
    typed = re.search(r'"(data\.patient_pattern=.*?)"', doubt)[1]
    pattern = re.compile(OverridesParser.create().parse_override(typed).value())
    assert len({(pattern.search(name.rpartition("/")[2]) or pattern.search(name))[0] for name in names}) == people
    assert not any(name.partition(".")[0].partition("/")[0] in doubt for name in names if len(name) > 12)  # no name is told


@pytest.mark.parametrize(
    "names",
    [
        [f"{kind}-{i}.png" for kind in ("COVID", "Normal") for i in range(60)],
        [f"amos_{i:04d}.nii.gz" for i in range(40)],
        [f"{site}_{51000 + 100 * n + i}.nii.gz" for n, site in enumerate("ABCDEFGHIJKLMN") for i in range(15)],
        [f"CHNCXR_{i:04d}_{i % 2}.png" for i in range(40)] + [f"MCUCXR_{i:04d}_{i % 2}.png" for i in range(20)],
        [f"{UID}{i * 7919 % 99991}.png" for i in range(60)],
        [f"{i * 7919 % 99991:x}-{i * 104729 % 99991:x}-{i}.png" for i in range(60)],
        [f"patient{i}/T1.nii.gz" for i in range(40)],
        [f"person{i}_virus_{t}.jpeg" for i in range(20) for t in range(2)],
        [f"BraTS-GLI-{i:05d}-{t:03d}/t1n.nii.gz" for i in range(20) for t in range(2)],
        ["a_1.png", "a_2.png", "b.png"],
    ],
)
def test_names_of_one_scan_a_patient_are_not_doubted(names):
    assert doubts(names) == []


def test_padchest_names_no_patient():
    assert doubts([f"{i:040d}_{t}.png" for i in range(3) for t in range(2)]) == [
        "6 names of PadChest hold a study, not the patient; list them in a CSV with the columns image and patient"
    ]


@pytest.mark.parametrize("name", ["train/patient{i:05d}/study{t}/view1.jpg", "files/p1{d}/p1{d}{i:06d}/s5{i}{t}/{i}.jpg"])
def test_folders_that_a_scheme_gives_to_patients_are_no_classes(tmp_path, name):
    for i in range(4):
        for t in range(2):
            picture(tmp_path / name.format(i=i, t=t, d=i % 3))
    films, title = listed(tmp_path)
    assert {film.label for film in films} == {None}
    assert len({person(film.inner) for film in films}) == 4
    assert "no label" in title


def test_classes_of_a_known_scheme_stay(tmp_path):
    for label in ("NORMAL", "PNEUMONIA"):
        for i in range(3):
            picture(tmp_path / label / f"person{i}_{label}_1.jpeg")
    assert {film.label for film in listed(tmp_path)[0]} == {"NORMAL", "PNEUMONIA"}
