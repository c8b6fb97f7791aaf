"""Judge a generator: `python -m medgan_pl.evaluate checkpoint=…`; `--help` is the manual."""

from medgan_pl.core.command import enter
from medgan_pl.evaluate.run import of_the_run, run


def main() -> None:
    enter("evaluate", run, prepare=of_the_run)


if __name__ == "__main__":
    main()
