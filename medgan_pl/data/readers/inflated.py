"""Read a regular file, and the content of a compressed one only as far as it is read."""

import io
import stat
import zlib
from pathlib import Path
from typing import BinaryIO

from medgan_pl.data.readers.scan import ScanError

PIECE = 2**16
MAX_MEMBERS = 2**16  # bgzip starts a member every 64 KiB: 4 GiB


def regular(path: Path) -> Path:
    """Return `path`; raise ScanError unless it is a regular file: reading a pipe or a device might never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise ScanError("an image must be a regular file, got a folder, a pipe or a device")
    return path


class Inflated(io.RawIOBase):
    """Read the content of a gzip file of one or more members, or of a zlib stream; it is inflated only as far as it is read.

    zlib checks length and checksum when the last byte is read. Raise ScanError if they are wrong.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.waiting, self.members = file, b"", 1
        self.member = zlib.decompressobj(32 + 15)  # detects gzip or zlib

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        while True:
            if self.member.eof:
                self.waiting = self.member.unused_data or self.file.read(PIECE)
                if not self.waiting:
                    return 0
                self.members += 1
                if self.members > MAX_MEMBERS:
                    raise ScanError(f"a gzip may have at most {MAX_MEMBERS} members, got more; compress it again")
                self.member = zlib.decompressobj(32 + 15)
            self.waiting = self.waiting or self.file.read(PIECE)
            if not self.waiting:
                raise ScanError("truncated: the compressed data end too early; copy the file again")
            try:
                piece = self.member.decompress(self.waiting, len(buffer))
            except zlib.error:
                raise ScanError("corrupt: the compressed data, or what follows them, do not inflate; copy the file again") from None
            self.waiting = self.member.unconsumed_tail
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
