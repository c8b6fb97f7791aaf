"""The verdicts: a mark and a sentence for each question. docs/evaluation.md explains the thresholds."""

from collections.abc import Iterable

from medgan_pl.evaluate.ladder import LADDERS
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.result import Result

MARKS = ("bad", "doubtful", "unknown", "good")  # the worst first
# Of the coverage and recall that held-out reals reach.
WELL_COVERED, BARELY_COVERED = 0.9, 0.6
# AUC below that of the classifier trained on reals.
AS_USEFUL, LESS_USEFUL = 0.02, 0.1

Verdict = dict[str, str]


def verdicts(results: Iterable[Result], leaks: str) -> dict[str, Verdict]:
    """Return group -> {mark, text} by the results of all images together. `leaks`: a sentence for each leak found, "" for none."""
    pooled = [result for result in results if not result.label]
    return {
        "fidelity": fidelity(pooled),
        "diversity": diversity(pooled),
        "use": use(pooled),
        "privacy": privacy(pooled, leaks),
        **({"paired": paired(pooled)} if any(result.key == "mae" for result in pooled) else {}),
    }


def number(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def known(results: list[Result], *keys: str) -> list[Result]:
    return [result for result in results if result.key in keys and result.estimate is not None]


def why_not(results: list[Result], *keys: str) -> Verdict:
    reasons = [result.undefined for result in results if result.key in keys and result.undefined]
    masks = {result.key for result in results} == {"dice"}
    not_requested = "masks are only compared with their own truths" if masks else "it was not requested"
    return {"mark": "unknown", "text": f"Not measured: {reasons[0] if reasons else not_requested}."}


def fidelity(results: list[Result]) -> Verdict:
    """Return "good" for fakes as near as held-out reals, or nearer than reals on the first level of every ladder; "bad" for fakes farther
    than reals on the last level of any ladder. The worst of all spaces counts."""
    found = [(mark_of_distance(result), result) for result in known(results, "fd") if result.floor]
    if not found:
        return why_not(results, "fd")
    mark, worst = min(found, key=lambda pair: MARKS.index(pair[0]))
    levels = "; ".join(f"under {name}: {value:.3g}" for name, value in worst.ladder.items())
    summary = {
        "good": "Generated images are about as near to unseen patients as other patients are.",
        "doubtful": "Generated images differ from real ones as much as slightly degraded reals do.",
        "bad": "Generated images differ from real ones more than strongly degraded reals do.",
    }[mark]
    text = (
        f"{summary} Fréchet distance in {worst.space} features {number(worst.estimate)}; two groups of real patients {number(worst.floor)}"
    )
    return {"mark": mark, "text": f"{text}{f'; reals {levels}' if levels else ''}."}


def mark_of_distance(result: Result) -> str:
    value = result.estimate.value
    first = [result.ladder[names[0]] for names in LADDERS.values() if names[0] in result.ladder]
    last = [result.ladder[names[-1]] for names in LADDERS.values() if names[-1] in result.ladder]
    if value <= result.floor.high or (first and value <= min(first)):
        return "good"
    return "bad" if last and value > min(last) else "doubtful"


def diversity(results: list[Result]) -> Verdict:
    """Return the verdict by the smallest share, over spaces, of the coverage and the recall that held-out reals reach."""
    found = [(r.estimate.value / r.floor.value, r) for r in known(results, "coverage", "recall") if r.floor and r.floor.value > 0]
    if not found:
        return why_not(results, "coverage", "recall")
    share, worst = min(found, key=lambda pair: pair[0])
    mark = "good" if share >= WELL_COVERED else "doubtful" if share >= BARELY_COVERED else "bad"
    summary = {
        "good": "Generated images vary about as patients do.",
        "doubtful": "Some kinds of patients are rare among the generated images, or missing.",
        "bad": "Many kinds of patients are missing from the generated images.",
    }[mark]
    text = f"{summary} {worst.key.capitalize()} in {worst.space} features {number(worst.estimate)}, of real patients {number(worst.floor)}"
    pairs = [r for r in known(results, "ms_ssim") if r.floor]
    text += "".join(f"; MS-SSIM between generated pairs {number(r.estimate)}, between real pairs {number(r.floor)}" for r in pairs)
    return {"mark": mark, "text": f"{text}."}


def use(results: list[Result]) -> Verdict:
    made = {r.key: r.estimate for r in known(results, "auc_real", "auc_synthetic", "auc_gain", "dice_real", "dice_synthetic")}
    for kind, name in (("auc", "AUC"), ("dice", "Dice")):
        if {f"{kind}_real", f"{kind}_synthetic"} <= made.keys():
            real, synthetic = made[f"{kind}_real"], made[f"{kind}_synthetic"]
            gap = real.value - synthetic.value
            mark = "good" if gap <= AS_USEFUL else "doubtful" if gap <= LESS_USEFUL else "bad"
            text = f"Trained on generated images alone, a small network reaches {name} {number(synthetic)} on real patients"
            text += f"; trained on reals {number(real)}"
            gain = (
                f"; adding generated images to reals changes it by {number(made['auc_gain'])}"
                if kind == "auc" and "auc_gain" in made
                else ""
            )
            return {"mark": mark, "text": f"{text}{gain}."}
    return why_not(results, "auc_synthetic", "dice_synthetic")


def privacy(results: list[Result], leaks: str) -> Verdict:
    found = known(results, "copies")
    if leaks:
        return {"mark": "bad", "text": f"{leaks} Do not share these images or this generator."}
    if not found:
        return why_not(results, "copies")
    gains = [result for result in known(results, "mia_advantage") if result.space in {copies.space for copies in found}]
    names = {"copies": "near-copies", "mia_advantage": "gain of an attacker"}
    values = "; ".join(f"{names[r.key]} in {r.space} {number(r.estimate)}" for r in [*found, *gains])
    return {
        "mark": "good",
        "text": f"Neither copies nor a gain of an attacker was found; this does not prove that nothing leaks: {values}.",
    }


def paired(results: list[Result]) -> Verdict:
    values = "; ".join(
        f"{r.key.replace('_paired', '').replace('_', '-')} {number(r.estimate)}" for r in results if r.key in PAIRED and r.estimate
    )
    return {
        "mark": "unknown",
        "text": f"Mean over images, each compared with its own truth: {values}. Judge them by what the task needs.",
    }


PAIRED = ("mae", "psnr", "ssim", "ms_ssim_paired", "dice", "hd95")
