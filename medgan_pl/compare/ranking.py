"""The ranking of judged runs by one number: only runs measured alike are ranked, and runs with overlapping intervals are tied."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgan_pl.compare.evaluated import EvaluatedRun
from medgan_pl.core.settings import difference, may_change
from medgan_pl.metrics.catalogue import CATALOGUE, Entry
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.result import Result


@dataclass(frozen=True)
class Ranked:
    """A run with the number it is ranked by. `tied`: its interval overlaps that of the first; for the first, that of any other."""

    evaluated: EvaluatedRun
    result: Result
    estimate: Estimate
    tied: bool = False

    @property
    def caught(self) -> bool:
        """Return True if the images were found to reveal patients."""
        return self.evaluated.privacy[0] == "bad"


@dataclass(frozen=True)
class Ranking:
    """The ranked runs, the best first. `unranked`: name -> reason. `entry`: the catalogue's entry of the score."""

    score: str
    entry: Entry
    runs: list[Ranked]
    unranked: dict[str, str]


def rank(runs: Sequence[EvaluatedRun], score: str) -> Ranking:
    """Rank the largest group of runs that were measured alike (of equal groups that of the first run) by the result named `score`.

    A run whose 95 % interval overlaps that of the first is tied with it. This rule is conservative: if two intervals do not overlap, the
    difference is beyond chance at that level, but some runs whose intervals overlap differ too.
    Raises ValueError if no run has that result, and if several have it but no two of them can be compared.
    """
    why = {run.name: why_not_ranked(run, score) for run in runs}
    scored = [run for run in runs if not why[run.name]]
    unranked = {name: reason for name, reason in why.items() if reason}
    if not scored:
        raise ValueError(f"`score` must be a result that is defined in a report, got {score}; {suggestion(runs, score)}")
    groups: dict[str, list[EvaluatedRun]] = {}
    for run in scored:
        groups.setdefault(json.dumps(measurement(run, run.results[score]), sort_keys=True), []).append(run)
    alike = max(groups.values(), key=len)
    for group in groups.values():
        for run in group if group is not alike else []:
            changes = difference(measurement(alike[0], alike[0].results[score]), measurement(run, run.results[score]))
            unranked[run.name] = f"measured otherwise (ranked, here): {'; '.join(changes)}"
    if len(alike) == 1 and len(scored) > 1:
        reasons = "\n  ".join(f"{name}: {reason}" for name, reason in unranked.items())
        raise ValueError(f"runs must be measured alike to be ranked, and no two of these were; from {alike[0].name} differ\n  {reasons}")
    ordered = sorted(alike, key=lambda run: cost(run.results[score]).value)
    end = cost(ordered[0].results[score]).high
    tied = [cost(run.results[score]).low <= end for run in ordered[1:]]
    ranked = [
        Ranked(run, run.results[score], run.results[score].estimate, tie) for run, tie in zip(ordered, [any(tied), *tied], strict=True)
    ]
    return Ranking(score, CATALOGUE[ranked[0].result.key], ranked, unranked)


def why_not_ranked(run: EvaluatedRun, score: str) -> str:
    """Return why a run cannot be ranked by this number, "" if it can."""
    result = run.results.get(score)
    if result is None:
        return f"its report has no {score}"
    if result.estimate is None:
        return f"{score} is not defined: {result.undefined}"
    if CATALOGUE[result.key].better == "floor" and result.floor is None:
        return f"{score} is compared with that of held-out reals, and its report lacks their value"
    return ""


def suggestion(runs: Sequence[EvaluatedRun], score: str) -> str:
    """Return the names that may have been meant, for an error."""
    reasons = [why_not_ranked(run, score) for run in runs if score in run.results]
    if reasons:
        return reasons[0]
    names = list(dict.fromkeys(name for run in runs for name, result in run.results.items() if result.estimate))
    close = difflib.get_close_matches(score, names, n=3, cutoff=0.5)
    return f"the nearest are {', '.join(close)}" if close else f"there are {', '.join(names[:30]) or 'none'}"


def cost(result: Result) -> Estimate:
    """Return the number as a cost, lower is better; for a metric that is best at its floor, the distance from the floor."""
    estimate, better = result.estimate, CATALOGUE[result.key].better
    if better == "higher":
        return Estimate(-estimate.value, -estimate.high, -estimate.low)
    if better == "floor":
        value, low, high = (end - result.floor.value for end in (estimate.value, estimate.low, estimate.high))
        return Estimate(abs(value), 0.0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high)))
    return estimate


def measurement(run: EvaluatedRun, result: Result) -> dict[str, Any]:
    """Return all that a result depends on besides the judged images; results that differ in it must not be compared."""
    data = {key: run.judgement.data.get(key) for key in ("split_hash", "size", "channels", "spatial_dims")}
    settings = {
        **data,
        "generated images": result.n_fake,
        "real images": result.n_real,
        "extractor": run.judgement.spaces.get(result.space),
    }
    if CATALOGUE[result.key].group == "use":
        settings["teaching"] = run.judgement.settings.get("use")
    return settings


def differences(runs: Sequence[EvaluatedRun], max_keys: int = 8) -> dict[str, dict[str, str]]:
    """Return run -> key -> value for the training settings in which the runs differ.

    At most `max_keys` settings are returned, and none that changes no number.
    """
    settings = {run.name: dict(leaves(run.judgement.run)) for run in runs if run.judgement.run}
    keys = dict.fromkeys(key for own in settings.values() for key in own)
    different = [key for key in keys if len({repr(own.get(key)) for own in settings.values()}) > 1][:max_keys]
    return {run.name: {key: str(settings[run.name].get(key)) for key in different} if run.name in settings else {} for run in runs}


def leaves(node: Mapping[str, Any], where: str = "") -> list[tuple[str, Any]]:
    """Return each value of a tree with its dotted key."""
    found: list[tuple[str, Any]] = []
    for key, value in node.items():
        place = f"{where}.{key}" if where else key
        if not may_change(place):
            found += leaves(value, place) if isinstance(value, dict) else [(place, value)]
    return found


def summary(ranking: Ranking) -> list[str]:
    """Return the lines below the table: the rule of ties, the floor, runs that were caught copying, limits of the score."""
    first, entry = ranking.runs[0], ranking.entry
    better = {"lower": "lower is better", "higher": "higher is better", "floor": "best is the value of held-out reals"}
    lines = [f"{ranking.score}: {entry.title}; {better[entry.better]}. {entry.reading}"]
    if first.tied:
        tied = ", ".join(run.evaluated.name for run in ranking.runs if run.tied)
        lines.append(f"Tied (=): {tied}. Their 95 % intervals overlap that of the first, so their order may be due to chance.")
    elif len(ranking.runs) > 1:
        lines.append(f"No tie: no other 95 % interval reaches that of {first.evaluated.name}.")
    else:
        lines.append("There is only one run, and nothing to compare it with.")
    if first.result.floor:
        lines.append(f"Floor, held-out reals in place of the fakes: {with_interval(first.result.floor)}.")
    if first.result.unordered:
        lines.append(f"The report of {first.evaluated.name} warns about {ranking.score}: {first.result.unordered}")
    caught = [run for run in ranking.runs if run.caught]
    lines += [f"CAUGHT COPYING: {run.evaluated.name}. {run.evaluated.privacy[1]}" for run in caught]
    if first.caught:
        honest = [run for run in ranking.runs if not run.caught]
        tied = [run.evaluated.name for run in honest[1:] if cost(run.result).low <= cost(honest[0].result).high]
        best = honest[0].evaluated.name + (f", tied with {', '.join(tied)}" if tied else "") if honest else "none"
        lines.append(f"Copying improves the score: do not choose {first.evaluated.name}; the best that was not caught is {best}.")
    if first.evaluated.privacy[0] == "unknown":
        lines.append(f"It was not judged whether {first.evaluated.name} copies.")
    return lines


def with_interval(estimate: Estimate) -> str:
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"
