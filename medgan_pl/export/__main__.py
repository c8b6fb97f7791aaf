"""Write weights for sharing: `python -m medgan_pl.export checkpoint=…`; `--help` is the manual."""

from medgan_pl.core.command import enter
from medgan_pl.export.weights import run


def main() -> None:
    enter("export", run)


if __name__ == "__main__":
    main()
