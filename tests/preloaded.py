"""A process that has imported the libraries once and forks for each command line: a command then starts at once, as a process of its own.

Each connection to its socket is one request and one answer, a line of JSON each. `command_line.py` is its client.
"""

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LIBRARIES = (
    "pytorch_lightning",
    "torchvision",
    "monai.transforms",
    "hydra",
    "wandb.sdk.launch",  # wandb imports it at the start of a run, which takes two seconds
    "wandb.apis.public",
    "matplotlib.pyplot",
    "nibabel",
    "pydicom",
    "scipy.ndimage",
)


def preload() -> None:
    """Import the libraries and every module of the package but the doors."""
    import medgan_pl

    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("composing").compose_quickly()
    for module in pkgutil.walk_packages(medgan_pl.__path__, "medgan_pl."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def become(request: dict[str, Any]) -> None:
    """Turn this fork into the process of a command line: its session, folder, environment, standard streams and arguments."""
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for stream, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        os.dup2(os.open(path, flags), stream)
    sys.path[0] = request["cwd"]
    sys.argv = [request["module"], *request["arguments"]]


def run(module: str) -> int:
    """Run a module as `python -m` does; return the exit code that Python would give."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return 1 if isinstance(stop.code, str) else stop.code or 0
    except Exception:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def end(code: int) -> None:
    """End as Python does, but leave the memory as it is: to take the libraries apart would take two seconds."""
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def main(path: str, watched: int) -> None:
    """Serve at the socket `path` until the process `watched` has ended."""
    preload()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen()
        listener.settimeout(1)
        Path(f"{path}.new").rename(path)  # a client that finds it can connect
        request = next(requests(listener, watched), None)
    if request is None:
        for left in (path, f"{path}.lock"):
            Path(left).unlink()
    else:  # in a fork
        become(request)
        end(run(request["module"]))


def requests(listener: socket.socket, watched: int) -> Iterator[dict[str, Any]]:
    """Answer each request; in a fork, yield the one for which it was made."""
    while True:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            try:
                os.kill(watched, 0)
            except ProcessLookupError:
                return
            continue
        with connection, connection.makefile("rw") as talk:
            request = json.loads(talk.readline())
            if "pid" in request:
                pid, status = os.waitpid(request["pid"], os.WNOHANG)
                answer = os.waitstatus_to_exitcode(status) if pid else None
            elif not (answer := os.fork()):
                break
            talk.write(json.dumps(answer) + "\n")
    yield request


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
