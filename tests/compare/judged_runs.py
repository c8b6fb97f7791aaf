"""Reports of judged runs as small as they can be."""

import json
from pathlib import Path
from typing import Any

from medgan_pl.compare.evaluated import read
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.judgement import FORMAT
from medgan_pl.metrics.result import Result

RULES = {"random": {"weights": "random, seed 0, width 16", "resize": "none"}}


def about(value: float, reach: float = 0.1) -> Estimate:
    return Estimate(value, value - reach, value + reach)


def report(*results: Result, mark: str = "good", **changes: Any) -> dict[str, Any]:
    data = {"split_hash": "ab12", "size": [64, 64], "channels": 1, "spatial_dims": 2}
    text = "Nine in ten are training images." if mark == "bad" else ""
    whole = {"format": FORMAT, "subject": {"kind": "checkpoint"}, "data": data, "spaces": RULES, "settings": {"use": {"seeds": 5}}}
    whole |= {"run": {}, "verdicts": {"privacy": {"mark": mark, "text": text}}, "results": [result.plain() for result in results]}
    return whole | changes


def fd(value: float, reach: float = 0.1, **changes: Any) -> Result:
    return Result("fd", "random", estimate=about(value, reach), **{"n_fake": 500, "n_real": 500, "floor": about(0.1, 0.02), **changes})


def lay(folder: str, content: Any) -> Path:
    path = Path(folder) / "report" / "metrics.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def judged(**reports: dict[str, Any]) -> list[Any]:
    return [read(lay(name, content), name) for name, content in reports.items()]


def order(ranking: Any) -> list[tuple[str, bool]]:
    return [(run.evaluated.name, run.tied) for run in ranking.runs]


def with_plane(value: float, space: str = "random", **changes: Any) -> dict[str, Any]:
    pair = [
        Result(key, space, estimate=about(share, 0.03), floor=about(1.0), n_fake=500)
        for key, share in (("density", 1 / value), ("coverage", 0.9 / value), ("precision", 0.8 / value), ("recall", 0.5 / value))
    ]
    return report(fd(value), *pair, **changes)
