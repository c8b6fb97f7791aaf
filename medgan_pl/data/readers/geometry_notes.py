"""Notes about a NIfTI header that states its geometry twice, in two ways."""

import nibabel as nib
import numpy as np

SAME_SHARE = 0.01  # sides of a voxel that differ by less are the same: headers round them


def doubts_about(header: nib.Nifti1Header, affine: np.ndarray, unit: float) -> tuple[str, ...]:
    """Return notes about an sform, the `affine` (4, 4) in mm, that disagrees with pixdim or with a qform of the same code.

    `unit`: millimeters of one unit of the header.
    """
    if header["sform_code"] <= 0 or not np.isfinite(affine).all():
        return ()
    by_sform, by_pixdim = np.linalg.norm(affine[:3, :3], axis=0), np.abs(np.asarray(header["pixdim"][1:4], np.float64)) * unit
    stated = np.isfinite(by_pixdim) & (by_pixdim > 0)  # a pixdim of 0 says nothing
    if (np.abs(by_pixdim - by_sform)[stated] > SAME_SHARE * by_sform[stated]).any():
        sides = [" × ".join(f"{side:.4g}" for side in sizes) for sizes in (by_sform, by_pixdim)]
        return (f"its sform and its pixdim disagree: voxels of {sides[0]} mm by the sform, which is used, and {sides[1]} mm by pixdim",)
    if header["qform_code"] != header["sform_code"] or not stated.all():
        return ()  # of two codes, one may lead to a template
    try:
        other = np.array(header.get_qform(), np.float64)
    except (ValueError, nib.spatialimages.HeaderDataError):
        return ()
    other[:3] *= unit
    ends = np.maximum(np.asarray(header["dim"][1:4], np.float64), 1) - 1
    corners = np.array(np.meshgrid(*[(0, end) for end in ends], [1], indexing="ij")).reshape(4, -1)
    off = float(np.abs((affine - other) @ corners).max())
    return (f"its sform and its qform disagree by up to {off:.4g} mm; the sform is used",) if off > by_sform.min() / 2 else ()
