"""Split one CT series into slabs, so that some of its slices can be held out: `python -m experiments.restoration.slabs SERIES FOLDER`.

Writes slabs of SLICES slices as NIfTI in HU and slabs.csv, whose `patient` is the slab: every fifth is test, two are val. The slabs are of
one patient and adjacent: results on them do not hold for other patients.
"""

import csv
import sys
from pathlib import Path

import nibabel
import numpy as np

from medgan_pl.data.files.folders import read_folder
from medgan_pl.data.files.listing import Wanted
from medgan_pl.data.modalities import CT

SLICES = 5
VAL = (2, 12)


def main(series: Path, folder: Path) -> None:
    ct = CT()
    (item,) = ct.gather(read_folder(series, Wanted(ct.takes, ct.kinds, classes=False)).items).items
    scan = ct.read(item)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "slabs.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "patient", "split"])
        for number, first in enumerate(range(0, len(scan.pixels), SLICES)):
            affine = scan.affine.copy()
            affine[:3, 3] += affine[:3, 0] * first
            slab = np.rint(scan.pixels[first : first + SLICES]).astype(np.int16)
            name = f"slab{number:02d}.nii.gz"
            nibabel.save(nibabel.Nifti1Image(slab.transpose(2, 1, 0), affine[:, [2, 1, 0, 3]]), folder / name)
            rows.writerow([name, f"s{number}", "test" if number % 5 == 4 else "val" if number in VAL else "train"])


if __name__ == "__main__":
    main(*(Path(argument).expanduser() for argument in sys.argv[1:3]))
