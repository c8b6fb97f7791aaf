"""The content of a torch archive, read by one reader: every byte that becomes a tensor is held to its checksum as it is read.

torch's own reader is not used: it passes over checksums, and takes a file for what its first bytes say.
"""

import io
import math
import pickle
import pickletools
import re
import struct
import sys
import zipfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from medgan_pl.core.untrusted import require, shown

if TYPE_CHECKING:
    from torch import Tensor, UntypedStorage, dtype

# Bytes that say which tensors there are, some 160 for each; a run of ours writes some 100 KiB. To walk through as many takes 5 seconds.
MAX_PICKLE = 4 * 2**20

TYPES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}
# All that the pickle of a checkpoint of ours names, and the operations it consists of. A pickle of other operations is none of torch's:
# among them are those that allot memory by a number in the file.
KNOWN = re.compile(rf"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch ({'|'.join(TYPES)})Storage")
OPERATIONS = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "NONE", "NEWTRUE", "NEWFALSE", "BINFLOAT", "BINUNICODE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("SETITEM", "SETITEMS", "APPEND", "APPENDS", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
}
END, LOCAL = b"PK\x05\x06", b"PK\x03\x04"  # of the zip, and the beginning of each part
END_BYTES, END_BYTES_64 = 22, 98  # the latter with the record and the locator of zip64 before it
LOCAL_BYTES, DESCRIBED, DESCRIPTORS = 30, 8, (16, 24)  # of a part: its header, the flag of a descriptor behind it, and the sizes of that


def read_archive(file: BinaryIO) -> Any:
    """Return the object that torch.save wrote to `file`: tensors on the CPU and plain containers.

    Raise ValueError, or another error of the readers, for a file that is not wholly such an archive.
    """
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        check_parts(file, archive, members)
        pickles = [member for member in members if member.filename.lower().endswith("/data.pkl")]
        require(len(pickles) == 1, f"it must have one data.pkl, got {len(pickles)}")
        require(pickles[0].file_size <= MAX_PICKLE, f"its data.pkl must have at most {MAX_PICKLE} bytes, got {pickles[0].file_size}")
        text = archive.read(pickles[0])
        check_operations(text)
        reader = Reader(text, archive, str(PurePosixPath(pickles[0].filename).parent))
        content = reader.load()
        for member in members:
            if member.filename not in reader.read:
                drain(archive, member)
        return content


class Reader(pickle.Unpickler):
    """The reader of a pickle whose operations are known: it builds tensors of checked parts of `archive`, and nothing else."""

    def __init__(self, text: bytes, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(text))
        self.archive, self.root, self.read = archive, root, {}
        if f"{root}/byteorder" in archive.namelist():
            order = archive.read(f"{root}/byteorder").decode()
            require(order == sys.byteorder, f"its numbers must be {sys.byteorder} endian, as this machine's, got {shown(order)}")

    def find_class(self, module: str, name: str) -> Any:
        import collections

        import torch

        require(bool(KNOWN.fullmatch(f"{module} {name}")), unknown(f"{module} {name}"))
        if module == "torch":
            return getattr(torch, TYPES[name.removesuffix("Storage")])
        return collections.OrderedDict if module == "collections" else rebuilt

    def persistent_load(self, pid: Any) -> "tuple[UntypedStorage, dtype]":
        """Return the numbers of one part of the archive, which must be as many as the pickle says."""
        import torch

        kind, dtype, key, _, count = pid
        require(kind == "storage" and isinstance(dtype, torch.dtype), f"its data.pkl refers to {shown(kind)}, and not to a storage")
        name = f"{self.root}/data/{key}"
        if name not in self.read:
            member = self.archive.getinfo(name)
            content = bytearray(member.file_size)
            with self.archive.open(member) as part:  # the checksum is held at the end
                require(part.readinto(content) == len(content) and not part.read(1), f"{shown(name)} is cut")
            self.read[name] = torch.frombuffer(content, dtype=torch.uint8).untyped_storage() if content else torch.UntypedStorage(0)
        storage = self.read[name]
        claimed = count * dtype.itemsize if type(count) is int else None
        require(claimed == storage.nbytes(), f"{shown(name)} must hold {shown(count)} numbers of {dtype}, got {storage.nbytes()} bytes")
        return storage, dtype


def rebuilt(
    numbers: "tuple[UntypedStorage, dtype]", offset: int, size: tuple[int, ...], stride: tuple[int, ...], grad: bool, hooks: Any
) -> "Tensor":
    """Return a view of a storage as a tensor. Raise ValueError for one that leaves the storage, which torch would enlarge."""
    import torch

    storage, dtype = numbers
    whole = all(type(n) is int and n >= 0 for n in (offset, *size, *stride)) and len(size) == len(stride)
    require(whole, f"a tensor must have a place and a shape, got {shown(offset)}, {shown(size)}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    fits = not math.prod(size) or last < storage.nbytes() // dtype.itemsize
    require(fits, f"a tensor of shape {size} must lie within its {storage.nbytes()} bytes")
    return torch.empty(0, dtype=dtype).set_(storage, offset, size, stride)


def unknown(name: str) -> str:
    return f"it names {shown(name)}, and a checkpoint holds nothing but tensors and plain containers"


def check_operations(text: bytes) -> None:
    """Raise ValueError unless the pickle consists of known operations on known names, to its last byte."""
    at = 0
    for code, argument, at in pickletools.genops(text):  # noqa: B007
        if code.name == "GLOBAL":
            require(bool(KNOWN.fullmatch(argument)), unknown(argument))
        require(code.name in OPERATIONS, f"its data.pkl does more than hold tensors and plain containers ({code.name})")
        if code.name == "LONG_BINPUT":  # a table of as many entries is allotted
            require(argument < len(text), f"its data.pkl numbers an object {argument}, more than it can hold")
    require(at == len(text) - 1, "its data.pkl goes on behind its end")


def check_parts(file: BinaryIO, archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Raise ValueError unless the file consists of its parts alone, one behind the other from its first byte, and their directory.

    So no other reader can find another content in it. Nothing is packed, so nothing can swell.
    """
    size = file.seek(0, io.SEEK_END)
    require(len({member.filename.lower() for member in members}) == len(members), "two of its parts have one name")
    require(all(member.compress_type == zipfile.ZIP_STORED for member in members), "its parts must be stored, not compressed")
    require(sum(member.file_size for member in members) <= size, "its parts say they are larger than the file")
    ordered, place = sorted(members, key=lambda member: member.header_offset), 0
    nexts = [*(member.header_offset for member in ordered[1:]), archive.start_dir]
    for member, after in zip(ordered, nexts, strict=True):
        file.seek(member.header_offset)
        header = file.read(LOCAL_BYTES)
        require(member.header_offset == place and header.startswith(LOCAL), f"{shown(member.filename)} must begin at byte {place}")
        require(member.file_size == member.compress_size, f"{shown(member.filename)} must be stored as it is")
        end = place + LOCAL_BYTES + sum(struct.unpack("<HH", header[26:30])) + member.file_size
        tails = [end + more for more in DESCRIPTORS] if member.flag_bits & DESCRIBED else [end]
        require(after in tails, f"nothing may lie between its parts, got bytes behind {shown(member.filename)}")
        place = after
    file.seek(-END_BYTES, io.SEEK_END)
    tail = file.read(END_BYTES)
    require(tail.startswith(END) and tail[-2:] == b"\0\0" and not archive.comment, "nothing may lie behind its directory")
    listed = sum(46 + len(member.orig_filename.encode()) + len(member.extra) + len(member.comment) for member in members)
    require(size - place - listed in (END_BYTES, END_BYTES_64), "nothing may lie in front of its directory or behind it")


def drain(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Read a part to its end, where its checksum is held."""
    with archive.open(member) as part:
        while part.read(2**20):
            pass
