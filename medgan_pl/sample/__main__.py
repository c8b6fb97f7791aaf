"""Draw images from a trained generator: `python -m medgan_pl.sample checkpoint=… n=64`; `--help` is the manual."""

from collections.abc import Sequence

from medgan_pl.core.command import enter
from medgan_pl.sample.draw import sample


def free_covariates(arguments: Sequence[str]) -> list[str]:
    """Mark `covariates.NAME=…` as additions (Hydra's ++): the model says which names there are, not the configuration."""
    return [f"++{argument}" if argument.startswith("covariates.") else argument for argument in arguments]


def main() -> None:
    enter("sample", sample, prepare=free_covariates)


if __name__ == "__main__":
    main()
