"""Generated images as files for other software, marked so that nobody mistakes them for a patient's."""

from medgan_pl.core.files import sha256
from medgan_pl.data.export.dicom import write_dicom
from medgan_pl.data.export.nifti import write_nifti
from medgan_pl.data.export.origin import Facts, Provenance, write_sidecar
from medgan_pl.data.export.pictures import write_png

__all__ = ["Facts", "Provenance", "sha256", "write_dicom", "write_nifti", "write_png", "write_sidecar"]
