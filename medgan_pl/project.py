"""The old name of `python -m medgan_pl.analyze analysis=inversion`."""

import runpy
import sys

OWN = ("steps", "rate", "features", "each_layer")  # keys that are the analysis's own now


def renamed(argument: str) -> str:
    """Return an argument of the old command as one of the new: image= is input=, steps= is analysis.steps=."""
    key, equals, value = argument.partition("=")
    return f"{'input' if key == 'image' else f'analysis.{key}' if key in OWN else key}{equals}{value}"


def main() -> None:
    """Say the new name, and run the new command."""
    print("note: medgan_pl.project is now: python -m medgan_pl.analyze analysis=inversion checkpoint=… input=…", file=sys.stderr)
    sys.argv[1:] = ["analysis=inversion", *map(renamed, sys.argv[1:])]
    runpy.run_module("medgan_pl.analyze", run_name="__main__")


if __name__ == "__main__":
    main()
