"""A user's commands, one after another in one process, in a copy of the package that has more files than the one that was imported."""

import importlib
import json
import sys
from pathlib import Path


def main(package: str, commands: str) -> None:
    """Run each `[door, *arguments]` of the file `commands` by the package in the folder `package`."""
    for name in [name for name in sys.modules if name.split(".")[0] == "medgan_pl"]:
        del sys.modules[name]
    sys.path.insert(0, package)
    for door, *arguments in json.loads(Path(commands).read_text()):
        sys.argv = [door, *arguments]
        importlib.import_module(f"medgan_pl.{door}.__main__").main()


if __name__ == "__main__":
    main(*sys.argv[1:])
