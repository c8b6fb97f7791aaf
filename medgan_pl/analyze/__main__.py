"""Analyze images with a trained generator: `python -m medgan_pl.analyze analysis=inversion checkpoint=… input=…`; see `--help`."""

from medgan_pl.analyze.run import analyze
from medgan_pl.core.command import enter


def main() -> None:
    enter("analyze", analyze)


if __name__ == "__main__":
    main()
