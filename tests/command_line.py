"""What the tests of the command line share: a tiny run, real processes, and what a run wrote."""

import csv
import fcntl
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image

TINY = (
    "data.size=16",
    "data.cohort.patients=60",
    "data.batch_size=8",
    "model.width=4",
    "model.latent=8",
    "metrics.random.extractor.width=4",
    "total_images=64",
    "log_every=16",
    "validate_every=32",
    "callbacks.samples.n=9",
    "callbacks.curves=null",  # they take longer to draw than such a run to train; the run of `finished` has them
    "trainer=cpu",
)


STARTED: list["subprocess.Popen[bytes]"] = []  # kept, since they outlive the process that starts them


@cache
def preloaded(package: Path | None = None) -> str:
    """Return the socket of the process that forks for each command line, for a copy of the package in the folder `package` if one is given.

    The first of the processes that run tests together starts it, and it ends with them.
    """
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    run, watched = ("", os.getpid()) if alone else (os.environ["PYTEST_XDIST_TESTRUNUID"], os.getppid())
    name = hashlib.sha256(f"{run} {watched} {package}".encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir(), f"medgan_pl-tests-{name}")
    place = os.environ | {"OMP_NUM_THREADS": "1"} | ({"PYTHONPATH": str(package)} if package else {})
    with Path(f"{path}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            program = [sys.executable, str(Path(__file__).with_name("preloaded.py")), str(path), str(watched)]
            STARTED.append(subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=place))
        while not path.exists():
            assert STARTED[-1].poll() is None, "the process that forks for each command line has not started"
            time.sleep(0.05)
    return str(path)


def ask(request: dict[str, Any], package: Path | None) -> Any:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(preloaded(package))
        with connection.makefile("rw") as talk:
            talk.write(json.dumps(request) + "\n")
            talk.flush()
            return json.loads(talk.readline())


class Process:
    """A command line that runs in a process and a session of its own, as from a shell. Its output goes to the files `out` and `err`.

    It is a module of `within`, or with "" one in the folder `cwd`, and sees the variables `env` besides the caller's.
    """

    def __init__(
        self,
        module: str,
        *arguments: str,
        out: Path,
        err: Path | None = None,
        cwd: Path | None = None,
        package: Path | None = None,
        within: str = "medgan_pl.",
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.package = package
        place = {"OMP_NUM_THREADS": "1", **os.environ, **env} | ({"PYTHONPATH": str(package)} if package else {})
        request = {"module": f"{within}{module}", "arguments": arguments, "env": place}
        paths = {"cwd": cwd or Path.cwd(), "out": out.absolute(), "err": (err or out).absolute()}
        self.pid: int = ask(request | {name: str(path) for name, path in paths.items()}, package)
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        if self.returncode is None:
            self.returncode = ask({"pid": self.pid}, self.package)
        return self.returncode

    def wait(self, timeout: float = 240) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                self.send_signal(signal.SIGKILL)
                raise TimeoutError(f"the command ran longer than {timeout} s and was killed")
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def command(
    module: str, *arguments: str, code: int = 0, seconds: float = 240, package: Path | None = None
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        given = Process(module, *arguments, out=out, err=err, package=package).wait(seconds)
        done = subprocess.CompletedProcess(arguments, given, out.read_text(), err.read_text())
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def picture(path: Path) -> Image.Image:
    """An image read whole, its file closed."""
    with Image.open(path) as file:
        return file.copy()


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of an offline run file: a LevelDB log (blocks of 32 KiB; checksum, length, type before each piece) behind 7 bytes."""
    assert data[:4] == b":W&B"
    place, record = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))
