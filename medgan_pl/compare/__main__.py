"""Rank judged runs: `python -m medgan_pl.compare outputs/* score=fd_random`; `--help` is the manual."""

import sys

from medgan_pl.compare.run import compare, split_arguments
from medgan_pl.core.command import enter


def main() -> None:
    paths, options = split_arguments(sys.argv[1:])
    enter("compare", lambda config: compare(paths, config), prepare=lambda _: options)


if __name__ == "__main__":
    main()
