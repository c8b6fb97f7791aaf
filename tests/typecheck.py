"""The checker behind the shapes in annotations: every module of the packages below is imported under it.

An int is a float here, as everywhere in Python's own typing (PEP 484).
"""

import importlib
from pathlib import Path

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook
from preloaded import LIBRARIES

import medgan_pl

CHECKED = ("models.networks", "models.losses", "metrics", "evaluate.report")
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

for library in LIBRARIES:  # under the hook their import takes twice as long
    importlib.import_module(library)
with install_import_hook([f"medgan_pl.{name}" for name in CHECKED], "typecheck.checked"):
    for name in CHECKED:
        folder = Path(medgan_pl.__file__).parent.joinpath(*name.split("."))
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            importlib.import_module(".".join(["medgan_pl", name, *(part for part in parts if part != "__init__")]))
