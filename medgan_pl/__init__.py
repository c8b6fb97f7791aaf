"""medgan_pl: train, judge and use generative adversarial networks on CT, MRI and X-ray images.

`load(path)` gives the module of a checkpoint; the rest is on the command line: `python -m medgan_pl.train --help`.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Late, because it imports torch: the manual of the command line must answer at once.
    if name == "load":
        from medgan_pl.sample import load

        return load
    raise AttributeError(f"module 'medgan_pl' has no attribute {name!r}")
