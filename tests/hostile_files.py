"""Good, odd and hostile files made on the fly. A maker writes into a folder and says what must be read: file name -> values (n, H, W)."""

import gzip
import io
import struct
import zlib
from functools import cache, partial
from pathlib import Path

import nibabel as nib
import numpy as np
from dicom_files import write_film, write_series
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from pydicom.uid import JPEGLosslessSV1, RLELossless

from medgan_pl.core.console import configuration_folder
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.export import Facts, Provenance, write_dicom, write_nifti, write_png
from medgan_pl.data.readers.scan import centered_affine

SHAPE, SPACING_MM = (4, 8, 8), (2.0, 1.0, 1.0)
AFFINE = nib.affines.from_matvec(np.diag([-1.0, -1.0, 2.0]), [3.5, 3.5, 0.0])  # (x, y, z) -> RAS+ mm: canonical as it is
ORIGIN = Provenance(model="resnet_gan", checkpoint_sha256="ab" * 32, seed=7, images_seen=1000, created="2025-01-02", config={})


def volume(seed):
    """(D, H, W) in HU within the window."""
    return np.random.default_rng(seed).integers(-900, 350, SHAPE).astype(np.float32)


def film(seed, dtype=np.uint16):
    return np.random.default_rng(seed).integers(0, 250, SHAPE[1:]).astype(dtype)


HU, FILM, PAIR = volume(0), film(0), ((0, volume(4)), (1, volume(5)))


@cache
def composed(kind):
    """The configuration `data` of `data=<kind>`, more overrides behind it."""
    overrides = [f"data={kind.split()[0]}", *kind.split()[1:], "run_dir=none", "data.size=8", "data.split=none"]
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        config = compose("config", overrides=overrides)
    plain = OmegaConf.to_container(config, resolve=True)["data"]
    if "slices" in plain:
        plain["slices"]["foreground"] = 0
    return plain


def read(kind, root, max_corrupt=0.9) -> ImageDataModule:
    """The set below `root`, read and split as training would have it; its cache lies beside."""
    place = {"root": str(root), "cache": {"dir": str(root) + ".cache"}, "max_corrupt": max_corrupt}
    data = instantiate({**composed(kind), **place}, _convert_="all")
    data.setup()
    return data


def write_good(kind, root):
    """Two sound scans that need no company."""
    root.mkdir(parents=True, exist_ok=True)
    if kind.startswith("xray"):
        Image.fromarray(film(1, np.uint8)).save(root / "good.png")
        write_film(root / "good.dcm", film(2))
        return {"good.png": film(1)[None], "good.dcm": film(2)[None]}
    (root / "good.nii").write_bytes(nifti(volume(1)))
    return {"good.nii": volume(1), **series("good", hu=volume(2), modality="MR" if kind == "mri" else "CT")(root)}


def content(name, made, expected=None):
    """A maker of one file; `made` is its bytes, or makes them."""

    def make(root):
        (root / name).write_bytes(made() if callable(made) else made)
        return {} if expected is None else {name: expected}

    return make


def nifti(values=HU, order="<", dtype="i2", **changes):
    """A NIfTI by hand of (D, H, W): nibabel corrects what it writes. `changes` are raw fields of the header."""
    stored = np.ascontiguousarray(values.T).astype(f"{order}{dtype}")
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(stored.dtype)
    header.set_data_shape(stored.shape)
    header.set_sform(AFFINE, 1)
    fixed = {"magic": b"n+1", "vox_offset": 352, "scl_slope": 1, "scl_inter": 0, "xyzt_units": 2}
    for name, value in {**fixed, **changes}.items():
        header[name] = value
    return header.binaryblock + b"\0\0\0\0" + stored.tobytes(order="F")


def with_affine(row):
    return nifti(srow_x=row, srow_y=row, srow_z=row)


def with_value(value):
    values = HU.copy()
    values[1, 2, 3] = value
    return nifti(values, dtype="f4")


def claimed(*sides):
    return nifti(dim=[len(sides), *sides, *[1] * (7 - len(sides))])


def wrong_crc():
    packed = gzip.compress(nifti())
    return packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:]


def gzip_bomb():
    """A good file and 2 GiB of zeros in 2 MB: after a full flush a block depends on nothing before it, so one is repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = packer.compress(nifti()) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**23)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + begin + block * 256 + packer.flush() + struct.pack("<II", 0, 0)


def meta(data=None, shape="8 8 4", data_file="LOCAL", matrix="TransformMatrix = 1 0 0 0 1 0 0 0 1\n"):
    head = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n{matrix}Offset = 0 0 0\n"
    head += f"ElementSpacing = 1 1 2\nDimSize = {shape}\nElementType = MET_SHORT\nElementDataFile = {data_file}\n"
    return head.encode() + (HU.astype("<i2").tobytes() if data is None else data)


def nrrd(shape="8 8 4", space="space: left-posterior-superior\n"):
    head = f"NRRD0005\ntype: short\ndimension: 3\n{space}sizes: {shape}\nspace directions: (1,0,0) (0,1,0) (0,0,2)\n"
    head += "endian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    return head.encode() + HU.astype("<i2").tobytes()


def outside(root):
    """A header beside the root's files that names one above them; the file exists."""
    (root.parent / "other.raw").write_bytes(HU.astype("<i2").tobytes())
    (root / "bad.mhd").write_bytes(meta(b"", data_file="../other.raw"))
    return {}


def series(name="bad", hu=HU, expected=None, **options):
    """A maker of a DICOM series in the folder `name`, its UID its own; `expected` is `hu` unless given."""

    def make(root):
        write_series(root / name, hu, spacing_mm=SPACING_MM, **{"series_uid": f"1.2.{sum(name.encode())}", **options})
        return {name + "/": hu if expected is None else expected}

    return make


def two_in_a_folder(root):
    paths = [write_series(root / "bad", values, spacing_mm=SPACING_MM, series_uid=f"1.3.{i}", prefix="ab"[i], seed=i) for i, values in PAIR]
    return {f"bad/{one[0].name}": values for one, (_, values) in zip(paths, PAIR, strict=True)}


def jpeg_among_many(root):
    """So many that several processes read them."""
    series(transfer_syntax=JPEGLosslessSV1)(root)
    for i in range(3):
        (root / f"more{i}.nii").write_bytes(nifti(volume(10 + i)))
    return {}


def ct_slices(root):
    write_series(root, HU, spacing_mm=SPACING_MM, prefix=".bad")
    return {}


def at(*slices, **tags):
    """Sets tags (None deletes) in some slices only: `edit` of a series."""

    def edit(i, ds):
        for name, value in tags.items() if i in slices else ():
            delattr(ds, name) if value is None else setattr(ds, name, value)

    return edit


def places(*mm, across=0.0):
    """Puts slice i at mm[i] along the table, `across` × that aside."""

    def edit(i, ds):
        ds.ImagePositionPatient = [-100, -120 + across * mm[i], 40 + mm[i]]

    return edit


def copied(root):
    """A series with one slice twice, which is read once."""
    expected = series()(root)
    first = next((root / "bad").iterdir())
    (root / "bad" / "copy.dcm").write_bytes(first.read_bytes())
    return expected


def x_ray(expected=None, stored=FILM, **tags):
    """A maker of one DICOM film."""

    def make(root):
        write_film(root / "bad.dcm", stored, **tags)
        return {"bad.dcm": np.asarray(stored if expected is None else expected, np.float32)[None]}

    return make


def empty_rle(root):
    """RLE of one empty segment that claims 65535 × 65535."""
    x_ray(transfer_syntax=RLELossless, Rows=65535, Columns=65535)(root)
    return {}


def tangle(root):
    """One volume below 12 folders, each with two links to the root, one to itself and one to nowhere."""
    folder = root
    for depth in range(12):
        folder = folder / f"{depth}"
        folder.mkdir()
        for link, target in (("up", root), ("back", root), ("self", folder / "self"), ("none", folder / "nothing")):
            (folder / link).symlink_to(target)
    (folder / "deep.nii").write_bytes(nifti())
    return {f"{folder.relative_to(root)}/deep.nii": HU}


def linked_twice(root):
    """A folder under three names; that of the first in the alphabet counts, whatever order the disk has."""
    (root / "b").mkdir()
    (root / "b" / "v.nii").write_bytes(nifti())
    for link in ("c", "a"):
        (root / link).symlink_to(root / "b")
    return {"a/v.nii": HU}


def png(width, height, depth=8, colour=0, rows=b"\0", extra=b""):
    """A PNG by hand, of whatever Pillow would not write."""
    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_colour():
    return png(8, 8, 16, colour=2, rows=b"".join(b"\0" + struct.pack(">24H", *range(y * 24, y * 24 + 24)) for y in range(8)))


def text_bomb():
    return png(8, 8, rows=bytes(72), extra=chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**27))))


def largest_png():
    """As many pixels as are let through, all black, in 65 KB."""
    return png(8192, 8192, rows=bytes(8193 * 8192))


def cut_png():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()[:2000]


class Payload:
    """Leaves the file `pwned` in the working folder when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


def pickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload()], object), allow_pickle=True)
    return buffer.getvalue()


def exported(root):
    """What our own sampling writes, as NIfTI and as a DICOM series."""
    affine, facts = centered_affine(SHAPE, SPACING_MM), Facts(0, "HU", -1000.0, 400.0, SPACING_MM)
    write_nifti(root / "bad.nii.gz", HU, affine)
    write_dicom(root / "bad", volume(3), facts, ORIGIN, modality="CT", affine=affine)
    return {"bad.nii.gz": HU, "bad/": volume(3)}


def exported_films(root):
    write_png(root / "bad.png", FILM, bits=8, low=0.0, high=255.0)
    write_dicom(root / "bad.dcm", film(3), Facts(0, "gray levels", 0.0, 255.0), ORIGIN, modality="CR")
    return {"bad.png": FILM[None], "bad.dcm": film(3)[None]}


bad_nifti, bad_gzip, bad_png = (partial(content, f"bad.{suffix}") for suffix in ("nii", "nii.gz", "png"))
bad_nrrd, bad_mha = (partial(content, f"bad.{suffix}") for suffix in ("nrrd", "mha"))
