"""What a judgement says, in plain containers: the rows of metrics.json, from which report, model card, wandb and `compare` are made.

metrics.json:

- `format`: FORMAT. `created`: ISO 8601. `version`: of medgan_pl.
- `subject`: who is judged: `kind` (checkpoint, folder, baseline), `name`, `path`; of a checkpoint also `sha256`, `model`, `images_seen`.
- `data`: the reals: `title`, `phantom`, `modality`, `unit`, `classes` (names), `size`, `channels`, `spatial_dims`, `split_hash`; `counts`
  and `patients`, each of `train`, `reference`, `floor`, `fake` (patients: not of fake); `per_class`: class -> images of the reference.
- `spaces`: name of an extractor -> its `rules`.
- `settings`: the configuration of the judgement. `run`: that of the training, {} where there is none.
- `verdicts`: group -> {`mark`: good, doubtful, bad or unknown; `text`: a sentence or two in plain language}.
- `results`: rows, as `Result.plain` gives them.
- `notes`: sentences a reader must see: what was left out, what is not to be trusted.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from medgan_pl.metrics.estimate import Estimate

FORMAT = 1


@dataclass(frozen=True)
class Result:
    """One number of a judgement.

    - `key`: its name in the catalogue; `space`: the extractor it was measured in, "" for none; `label`: the class it is of, "" for all.
    - `estimate`: None where it is not defined, and then `undefined` says why.
    - `n_fake`, `n_real`: images it rests on. `unit`: what it is in, "" where the catalogue says it or it has none.
    - `floor`: the same number for held-out reals in place of the fakes. `ladder`: rung -> the value for reals made worse, the best first;
      `noise`: for noise in place of images.
    - `unordered`: what the ladder shows this metric not to see, a sentence; "" where it orders all rungs, or there is no ladder.
    """

    key: str
    space: str = ""
    label: str = ""
    estimate: Estimate | None = None
    undefined: str = ""
    n_fake: int = 0
    n_real: int = 0
    floor: Estimate | None = None
    ladder: dict[str, float] = field(default_factory=dict)
    noise: float | None = None
    unordered: str = ""
    unit: str = ""

    @property
    def name(self) -> str:
        """fd_random, fd_random/PNEUMONIA, mia_advantage_pixels."""
        return self.key + (f"_{self.space}" if self.space else "") + (f"/{self.label}" if self.label else "")

    def plain(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}

    @classmethod
    def from_plain(cls, row: dict[str, Any]) -> "Result":
        """Raises TypeError for a row with keys of another format."""
        row = {key: value for key, value in row.items() if key != "name"}
        estimates = {key: row[key] and Estimate(**row[key]) for key in ("estimate", "floor")}
        return replace(cls(**row), **estimates)
