"""Gathers the runs of a sweep into one table: `python experiments/collect.py multirun/<study> > experiments/<study>/results.csv`.

A row a run: what was set for it, the images shown, the distance before the first step, the last and the lowest, and the images per second.
"""

import csv
import statistics
import sys
from pathlib import Path

from omegaconf import OmegaConf

from medgan_pl.callbacks import read_table


def row(run: Path) -> dict[str, object]:
    """What one run folder comes to."""
    table = read_table(run / "metrics.csv")
    images, values = table["val/fd_random"]
    chosen = [str(override) for override in OmegaConf.load(run / ".hydra" / "overrides.yaml")]
    speed = statistics.median(table["images_per_second"][1])
    return {
        "settings": " ".join(override for override in chosen if not override.startswith("+")),
        "images": int(images[-1]),
        "fd_random_untrained": round(values[0], 3),
        "fd_random_last": round(values[-1], 3),
        "fd_random_best": round(min(values), 3),
        "kid_random_last": round(table["val/kid_random"][1][-1], 4),
        "images_per_second": round(speed, 1),
    }


def main() -> None:
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit("usage: python experiments/collect.py <folder of a sweep>")
    rows = [row(path.parent) for path in sorted(Path(sys.argv[1]).glob("*/metrics.csv"))]
    if not rows:
        raise SystemExit(f"error: no run with a metrics.csv stands in {sys.argv[1]}")
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


if __name__ == "__main__":
    main()
