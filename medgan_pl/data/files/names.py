"""Names of files: the endings of each kind of file, and the part by which images, masks and sources of one patient are matched."""

import re
from pathlib import PurePath

PICTURES, DICOMS, OTHERS = (".png", ".jpg", ".jpeg", ".tif", ".tiff"), (".dcm", ".dicom"), (".txt", ".csv", ".json")
PAIRS, MGH = (".hdr", ".hdr.gz"), (".mgz", ".mgh")  # the header of a NIfTI pair, whose data are in .img or .img.gz; FreeSurfer
NIFTI, ITK = (".nii", ".nii.gz", *PAIRS), (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUMES = (*NIFTI, *MGH, *ITK)
HEADED = (*PAIRS, *ITK)  # the data may be in a second file
# The end of the name of a mask, whose image has the same name without it.
MASK_NAME = re.compile(r"[-_.](seg|segmentation|masks?|msk|dseg|labels?|gt)$", re.IGNORECASE)


def bare(name: str) -> str:
    """Return the name without the ending of its kind of file: lesion/a.1.nii.gz -> lesion/a.1"""
    folder, slash, file = name.rpartition("/")
    for ending in (*VOLUMES, *PICTURES, *DICOMS):
        if file.lower().endswith(ending):
            return folder + slash + file[: -len(ending)]
    return name


def stem(path: PurePath) -> str:
    """Return the name that an image and its mask share: lesion/a_mask.nii.gz -> lesion/a"""
    return MASK_NAME.sub("", bare(path.as_posix()))
