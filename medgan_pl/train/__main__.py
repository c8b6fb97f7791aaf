"""Train a GAN: `python -m medgan_pl.train model=resnet_gan data=chest_xray`; `--help` is the manual.

The heavy imports come inside the functions, so that the manual and a mistyped option answer at once.
"""

import os
import sys
from pathlib import Path

from medgan_pl.core.command import OTHER_RANK, enter
from medgan_pl.core.console import one_message
from medgan_pl.train.resume import prepare
from medgan_pl.train.run import follow, run


def main() -> None:
    if OTHER_RANK in os.environ and not {"--help", "-h"} & set(sys.argv[1:]):
        with one_message(None):
            follow(Path(os.environ[OTHER_RANK]))
        return
    enter("train", run, config="config", prepare=prepare)


if __name__ == "__main__":
    main()
