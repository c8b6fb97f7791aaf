"""Inspect a data set before training: `python -m medgan_pl.inspect data=ct data.root=DIR`; exit code 1 if it is unfit."""

from medgan_pl.core.command import enter
from medgan_pl.inspect.look import inspect


def main() -> None:
    enter("inspect", inspect)


if __name__ == "__main__":
    main()
