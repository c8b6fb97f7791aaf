"""Apply a trained image-to-image generator to whole images: `python -m medgan_pl.apply checkpoint=… input=DIR output=DIR`."""

from medgan_pl.apply.run import apply
from medgan_pl.core.command import enter


def main() -> None:
    enter("apply", apply)


if __name__ == "__main__":
    main()
