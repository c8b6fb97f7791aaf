"""Folders of many patients are no patient: the batches, parts and kinds of public sets."""

import pytest

from medgan_pl.data.files.containers import located, people_in
from medgan_pl.data.files.people import doubts


def paths(pattern: str, n: int = 12) -> list[str]:
    return [pattern.format(i) for i in range(n)]


@pytest.mark.parametrize(
    "inners",
    [
        paths("Training Batch 1/volume-{}.nii") + paths("Training Batch 2/volume-2{}.nii"),  # LiTS
        paths("averaged-training-images/DET000{}_avg.nii.gz"),  # BTCV
        paths("amos22/imagesTr/amos_{}.nii.gz") + paths("amos22/imagesTs/amos_5{}.nii.gz"),
        paths("subset0/1.3.6.1{}.mhd") + paths("subset1/1.3.6.2{}.mhd"),  # LUNA16
        paths("set_1/case_{0}/case_{0}_IMG_CT.nrrd"),  # HaN-Seg
        paths("CXR_png/MCUCXR_{}_0.png"),
        paths("HGG/a{}/x.mha") + paths("LGG/b{}/x.mha"),
        paths("Labeled/A{0}S9/A{0}S9_sa.nii.gz"),  # M&Ms
        paths("Center_01/P{}/FLAIR.nii.gz") + paths("Center_02/Q{}/FLAIR.nii.gz"),
        paths("WORD-V0.1.0/imagesTr/word_{}.nii.gz"),
    ],
)
def test_each_file_or_folder_below_is_a_patient(inners) -> None:
    where = located(inners)
    assert len({who or place for who, place in zip(people_in(inners), where, strict=True)}) == len(inners)
    assert not any("/" in place and place.partition("/")[0] in inners[0].partition("/")[0] for place in where)


@pytest.mark.parametrize(
    ("inners", "people"),
    [
        (paths("anna/{}.png") + paths("bert/{}.png"), {"anna", "bert"}),
        (paths("scan_1/{}.png") + paths("scan_2/{}.png"), {"scan_1", "scan_2"}),  # of one scan, perhaps
        (paths("data{}/T1.nii.gz"), {f"data{i}" for i in range(12)}),
        (paths("part{}/T1.nii.gz"), {f"part{i}" for i in range(12)}),  # each holds one file
        ([f"part{i}/{c}.nii" for i in range(9) for c in ("T1", "T2", "PD", "FLAIR")], {f"part{i}" for i in range(9)}),
        (paths("anna/ses-{}/T1.nii.gz"), {"anna"}),
        (paths("anna/visit{}.nii.gz"), {"anna"}),
        (["anna/T1.nii", "anna/T2.nii"], {"anna"}),
        (["anna/T1/x.nii", "anna/T2/x.nii"], {"anna"}),
        (paths("ct/P{}.nii.gz") + paths("mr/P{}.nii.gz"), {f"P{i}" for i in range(12)}),  # one name in both
        (paths("T1/P{}.nii.gz") + paths("T2/P{}.nii.gz"), {f"P{i}" for i in range(12)}),
        (paths("batch 1/p{}/T1.nii.gz"), {f"p{i}" for i in range(12)}),
    ],
)
def test_patients_stay_whole(inners, people) -> None:
    assert set(people_in(inners)) == people


def test_names_below_such_folders_are_doubted() -> None:
    inners = [f"train/{i:03d}_{c}.nii.gz" for i in range(12) for c in ("pre", "post")]
    assert people_in(inners) == [None] * 24
    assert "24 patients by their names may be 12 people" in doubts(located(inners))[0]
