"""medgan_pl: train, judge and use generative adversarial networks on CT, MRI and X-ray images.

`load(path)` gives the module of a checkpoint; the rest is on the command line: `python -m medgan_pl.train --help`.
"""

from typing import Any

from medgan_pl.core.version import __version__ as __version__

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Late, because it imports torch: the manual of the command line must answer at once.
    if name == "load":
        from medgan_pl.models.load import load

        return load
    raise AttributeError(f"module 'medgan_pl' has no attribute {name!r}")
