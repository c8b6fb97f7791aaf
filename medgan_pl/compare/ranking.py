"""Judged runs put in order by one number: only those measured alike, with ties where the intervals do not tell two apart."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medgan_pl.compare.judged import Judged
from medgan_pl.core.settings import difference, may_change
from medgan_pl.metrics.catalogue import CATALOGUE, Entry
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.result import Result


@dataclass(frozen=True)
class Ranked:
    """A run with the number it is ranked by; `tied`: its interval overlaps that of the first, or it is the first of several so."""

    judged: Judged
    result: Result
    estimate: Estimate
    tied: bool = False

    @property
    def caught(self) -> bool:
        """Return whether the images were found to give patients away."""
        return self.judged.privacy[0] == "bad"


@dataclass(frozen=True)
class Ranking:
    """The best first; `unranked`: name -> why. `entry`: what the catalogue says of the score."""

    score: str
    entry: Entry
    runs: list[Ranked]
    unranked: dict[str, str]


def rank(judged: Sequence[Judged], score: str) -> Ranking:
    """Ranks the largest group of runs that were measured alike (of equal ones that of the first run) by the result named `score`.

    A run whose 95 % interval overlaps that of the first is tied with it. That is the careful rule: where two intervals do not overlap the
    difference is beyond chance at that level, while some that overlap differ all the same.
    ValueError if no run has that result, and if there are several with it and no two of them can be compared.
    """
    why = {run.name: lacking(run, score) for run in judged}
    scored = [run for run in judged if not why[run.name]]
    unranked = {name: reason for name, reason in why.items() if reason}
    if not scored:
        raise ValueError(f"`score` must be a result that is defined in a report, got {score}; {nearest(judged, score)}")
    groups: dict[str, list[Judged]] = {}
    for run in scored:
        groups.setdefault(json.dumps(rules(run, run.results[score]), sort_keys=True), []).append(run)
    alike = max(groups.values(), key=len)
    for group in groups.values():
        for run in group if group is not alike else []:
            changes = difference(rules(alike[0], alike[0].results[score]), rules(run, run.results[score]))
            unranked[run.name] = f"measured otherwise (ranked, here): {'; '.join(changes)}"
    if len(alike) == 1 and len(scored) > 1:
        told = "\n  ".join(f"{name}: {reason}" for name, reason in unranked.items())
        raise ValueError(f"runs must be measured alike to be ranked, and no two of these were; from {alike[0].name} differ\n  {told}")
    ordered = sorted(alike, key=lambda run: worth(run.results[score]).value)
    end = worth(ordered[0].results[score]).high
    tied = [worth(run.results[score]).low <= end for run in ordered[1:]]
    runs = [Ranked(run, run.results[score], run.results[score].estimate, tie) for run, tie in zip(ordered, [any(tied), *tied], strict=True)]
    return Ranking(score, CATALOGUE[runs[0].result.key], runs, unranked)


def lacking(run: Judged, score: str) -> str:
    """Why a run has no such number, "" where it has."""
    result = run.results.get(score)
    if result is None:
        return f"its report has no {score}"
    if result.estimate is None:
        return f"{score} is not defined: {result.undefined}"
    if CATALOGUE[result.key].better == "floor" and result.floor is None:
        return f"{score} is right where held-out reals have it, and its report lacks their value"
    return ""


def nearest(judged: Sequence[Judged], score: str) -> str:
    """Return the names that could have been meant, for an error."""
    reasons = [lacking(run, score) for run in judged if score in run.results]
    if reasons:
        return reasons[0]
    names = list(dict.fromkeys(name for run in judged for name, result in run.results.items() if result.estimate))
    close = difflib.get_close_matches(score, names, n=3, cutoff=0.5)
    return f"the nearest are {', '.join(close)}" if close else f"there are {', '.join(names[:30]) or 'none'}"


def worth(result: Result) -> Estimate:
    """The number turned so that lower is better; of one that is right at its floor, how far it is from there."""
    estimate, better = result.estimate, CATALOGUE[result.key].better
    if better == "higher":
        return Estimate(-estimate.value, -estimate.high, -estimate.low)
    if better == "floor":
        value, low, high = (end - result.floor.value for end in (estimate.value, estimate.low, estimate.high))
        return Estimate(abs(value), 0.0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high)))
    return estimate


def rules(run: Judged, result: Result) -> dict[str, Any]:
    """All on which a result rests besides the images judged: two that differ in any must not be compared."""
    data = {key: run.judgement.data.get(key) for key in ("split_hash", "size", "channels", "spatial_dims")}
    found = {**data, "generated images": result.n_fake, "real images": result.n_real, "extractor": run.judgement.spaces.get(result.space)}
    if CATALOGUE[result.key].group == "use":
        found["teaching"] = run.judgement.settings.get("use")
    return found


def differing(runs: Sequence[Judged], max_keys: int = 8) -> dict[str, dict[str, str]]:
    """Return run -> key -> value for the training settings in which the runs differ.

    At most `max_keys` settings are returned, and none that changes no number.
    """
    leaves = {run.name: dict(flat(run.judgement.run)) for run in runs if run.judgement.run}
    keys = dict.fromkeys(key for found in leaves.values() for key in found)
    told = [key for key in keys if len({repr(found.get(key)) for found in leaves.values()}) > 1][:max_keys]
    return {run.name: {key: str(leaves[run.name].get(key)) for key in told} if run.name in leaves else {} for run in runs}


def flat(node: Mapping[str, Any], where: str = "") -> list[tuple[str, Any]]:
    """Each value of a tree with its dotted key."""
    found: list[tuple[str, Any]] = []
    for key, value in node.items():
        place = f"{where}.{key}" if where else key
        if not may_change(place):
            found += flat(value, place) if isinstance(value, dict) else [(place, value)]
    return found


def spoken(ranking: Ranking) -> list[str]:
    """Return what a reader of the table must know: the rule of ties, the floor, who was caught, what the score does not see."""
    first, entry = ranking.runs[0], ranking.entry
    better = {"lower": "lower is better", "higher": "higher is better", "floor": "the nearer to that of held-out reals the better"}
    lines = [f"{ranking.score}: {entry.title}; {better[entry.better]}. {entry.reading}"]
    if first.tied:
        tied = ", ".join(run.judged.name for run in ranking.runs if run.tied)
        lines.append(f"Tied (=): {tied}. Their 95 % intervals overlap that of the first, so chance can have put them in this order.")
    elif len(ranking.runs) > 1:
        lines.append(f"No tie: no other 95 % interval reaches that of {first.judged.name}.")
    else:
        lines.append("One run alone: there is nothing to compare it with.")
    if first.result.floor:
        lines.append(f"Floor, held-out reals in place of the fakes: {told(first.result.floor)}.")
    if first.result.unordered:
        lines.append(f"Of {ranking.score} the report of {first.judged.name} warns: {first.result.unordered}")
    caught = [run for run in ranking.runs if run.caught]
    lines += [f"CAUGHT COPYING: {run.judged.name}. {run.judged.privacy[1]}" for run in caught]
    if first.caught:
        honest = [run for run in ranking.runs if not run.caught]
        tied = [run.judged.name for run in honest[1:] if worth(run.result).low <= worth(honest[0].result).high]
        best = honest[0].judged.name + (f", tied with {', '.join(tied)}" if tied else "") if honest else "none"
        lines.append(f"A copier wins by copying: do not choose {first.judged.name}; the best that was not caught is {best}.")
    if first.judged.privacy[0] == "unknown":
        lines.append(f"Whether {first.judged.name} copies was not judged.")
    return lines


def told(estimate: Estimate) -> str:
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"
