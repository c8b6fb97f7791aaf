"""What a scan is called, whatever kind of file it lies in: how images, masks and sources of one patient are matched."""

from pathlib import PurePath

from medgan_pl.data.modalities import ITK, NIFTI
from medgan_pl.data.records import DICOMS, MASK_NAME, PICTURES


def bare(name: str) -> str:
    """lesion/a.1.nii.gz -> lesion/a.1: the name without the ending of its kind of file."""
    folder, slash, file = name.rpartition("/")
    for ending in (*NIFTI, *ITK, *PICTURES, *DICOMS):
        if file.lower().endswith(ending):
            return folder + slash + file[: -len(ending)]
    return name


def stem(path: PurePath) -> str:
    """lesion/a_mask.nii.gz -> lesion/a"""
    return MASK_NAME.sub("", bare(path.as_posix()))
