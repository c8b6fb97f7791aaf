"""One number of a judgement: a row of metrics.json (see `judgement.py`)."""

from dataclasses import asdict, dataclass, field
from typing import Any

from medgan_pl.metrics.estimate import Estimate


@dataclass(frozen=True)
class Result:
    """One number of a judgement.

    - `key`: its name in the catalogue. `space`: the extractor it was measured in, "" for none. `label`: its class, "" for all.
    - `estimate`: None if it is not defined, and then `undefined` gives the reason.
    - `n_fake`, `n_real`: the numbers of images it is computed from. `unit`: "" if the catalogue gives it or there is none.
    - `floor`: the same number for held-out reals in place of the fakes.
    - `ladder`: severity level -> the value for degraded reals, the mildest first. `noise`: the value for noise in place of images.
    - `unordered`: a sentence on the levels that this metric does not order; "" if it orders all levels, or there is no ladder.
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
        """Return the name, such as fd_random, fd_random/PNEUMONIA, mia_advantage_pixels."""
        return self.key + (f"_{self.space}" if self.space else "") + (f"/{self.label}" if self.label else "")

    def plain(self) -> dict[str, Any]:
        """Return the row of metrics.json."""
        return {"name": self.name, **asdict(self)}

    @classmethod
    def from_plain(cls, row: dict[str, Any]) -> "Result":
        """Return the result of a row that was validated. Raises TypeError for a row with keys of another format."""
        estimates = {key: row[key] and Estimate(**row[key]) for key in ("estimate", "floor")}
        return cls(**{key: value for key, value in row.items() if key != "name"} | estimates)
