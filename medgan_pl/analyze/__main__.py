"""Use what a trained pair knows: `python -m medgan_pl.analyze analysis=inversion checkpoint=… input=…`; `--help` is the manual."""

from medgan_pl.analyze.run import analyze
from medgan_pl.core.command import enter


def main() -> None:
    enter("analyze", analyze)


if __name__ == "__main__":
    main()
