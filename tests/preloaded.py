"""A process that has imported the libraries once and forks for each command line: a command then starts at once, as a process of its own.

It reads one request a line from its standard input, as JSON, and answers each on its standard output. `command_line.py` is its client.
"""

import importlib
import json
import os
import pkgutil
import runpy
import sys
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
    importlib.import_module("hydra.core.plugins").Plugins.instance()  # looks for Hydra's plugins, once a process
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


def main() -> None:
    preload()
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    for line in requests:
        request = json.loads(line)
        if "pid" in request:
            pid, status = os.waitpid(request["pid"], 0 if request["wait"] else os.WNOHANG)
            answers.write(json.dumps(os.waitstatus_to_exitcode(status) if pid else None) + "\n")
            continue
        child = os.fork()
        if not child:
            become(request)
            break
        answers.write(json.dumps(child) + "\n")
    else:
        return
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
