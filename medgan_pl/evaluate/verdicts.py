"""The verdicts: a sentence and a mark for each question; the thresholds stand here and in docs/evaluation.md."""

from collections.abc import Iterable

from medgan_pl.evaluate.ladder import LADDERS
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.result import Result

MARKS = ("bad", "doubtful", "unknown", "good")  # the worst first
# Of the coverage and recall that held-out reals reach.
WELL_COVERED, BARELY_COVERED = 0.9, 0.6
# AUC below the classifier taught by reals.
AS_USEFUL, LESS_USEFUL = 0.02, 0.1

Verdict = dict[str, str]


def verdicts(results: Iterable[Result], caught: str) -> dict[str, Verdict]:
    """Group -> {mark, text}, from the results of all images together; `caught`: what was found to leak, "" for nothing."""
    pooled = [result for result in results if not result.label]
    return {
        "fidelity": fidelity(pooled),
        "diversity": diversity(pooled),
        "use": use(pooled),
        "privacy": privacy(pooled, caught),
        **({"paired": paired(pooled)} if any(result.key == "mae" for result in pooled) else {}),
    }


def shown(estimate: Estimate) -> str:
    return f"{estimate.value:.3g} ({estimate.low:.3g} to {estimate.high:.3g})"


def known(results: list[Result], *keys: str) -> list[Result]:
    return [result for result in results if result.key in keys and result.estimate is not None]


def why_not(results: list[Result], *keys: str) -> Verdict:
    reasons = [result.undefined for result in results if result.key in keys and result.undefined]
    masks = {result.key for result in results} == {"dice"}
    unasked = "masks are held against their own truths, and judged by nothing else" if masks else "it was not asked for"
    return {"mark": "unknown", "text": f"Not measured: {reasons[0] if reasons else unasked}."}


def fidelity(results: list[Result]) -> Verdict:
    """Good: as near as held-out reals, or nearer than reals on the first rung of every ladder; bad: farther than reals on the last rung of
    any; the worst of all spaces counts."""
    found = [(mark_of_distance(result), result) for result in known(results, "fd") if result.floor]
    if not found:
        return why_not(results, "fd")
    mark, worst = min(found, key=lambda pair: MARKS.index(pair[0]))
    rungs = {name: worst.ladder[name] for name in worst.ladder}
    steps = "; ".join(f"under {name}: {value:.3g}" for name, value in rungs.items())
    say = {
        "good": "Generated images are about as near to unseen patients as other patients are.",
        "doubtful": "Generated images can be told from real ones, by as much as slightly spoilt reals.",
        "bad": "Generated images are farther from real ones than badly spoilt reals are.",
    }[mark]
    text = f"{say} Fréchet distance in {worst.space} features {shown(worst.estimate)}; two groups of real patients {shown(worst.floor)}"
    return {"mark": mark, "text": f"{text}{f'; reals {steps}' if steps else ''}."}


def mark_of_distance(result: Result) -> str:
    value = result.estimate.value
    first = [result.ladder[names[0]] for names in LADDERS.values() if names[0] in result.ladder]
    last = [result.ladder[names[-1]] for names in LADDERS.values() if names[-1] in result.ladder]
    if value <= result.floor.high or (first and value <= min(first)):
        return "good"
    return "bad" if last and value > min(last) else "doubtful"


def diversity(results: list[Result]) -> Verdict:
    """By the smallest share, over spaces, of the coverage and the recall that held-out reals reach."""
    found = [(r.estimate.value / r.floor.value, r) for r in known(results, "coverage", "recall") if r.floor and r.floor.value > 0]
    if not found:
        return why_not(results, "coverage", "recall")
    share, worst = min(found, key=lambda pair: pair[0])
    mark = "good" if share >= WELL_COVERED else "doubtful" if share >= BARELY_COVERED else "bad"
    say = {
        "good": "Generated images vary about as patients do.",
        "doubtful": "Some kinds of patients are rare among the generated images, or missing.",
        "bad": "Many kinds of patients are missing among the generated images.",
    }[mark]
    text = f"{say} {worst.key.capitalize()} in {worst.space} features {shown(worst.estimate)}, of real patients {shown(worst.floor)}"
    alike = [f"; pairs are alike by {shown(r.estimate)}, pairs of reals by {shown(r.floor)}" for r in known(results, "ms_ssim") if r.floor]
    return {"mark": mark, "text": f"{text}{''.join(alike)}."}


def use(results: list[Result]) -> Verdict:
    made = {r.key: r.estimate for r in known(results, "auc_real", "auc_synthetic", "auc_gain", "dice_real", "dice_synthetic")}
    for kind, name in (("auc", "AUC"), ("dice", "Dice")):
        if {f"{kind}_real", f"{kind}_synthetic"} <= made.keys():
            real, synthetic = made[f"{kind}_real"], made[f"{kind}_synthetic"]
            gap = real.value - synthetic.value
            mark = "good" if gap <= AS_USEFUL else "doubtful" if gap <= LESS_USEFUL else "bad"
            text = f"Taught by generated images alone, a small network reaches {name} {shown(synthetic)} on real patients"
            text += f"; taught by reals {shown(real)}"
            gain = f"; generated images beside reals change it by {shown(made['auc_gain'])}" if kind == "auc" and "auc_gain" in made else ""
            return {"mark": mark, "text": f"{text}{gain}."}
    return why_not(results, "auc_synthetic", "dice_synthetic")


def privacy(results: list[Result], caught: str) -> Verdict:
    found = known(results, "copies")
    if caught:
        return {"mark": "bad", "text": f"{caught} Do not share these images or this generator."}
    if not found:
        return why_not(results, "copies")
    gains = [result for result in known(results, "mia_advantage") if result.space in {copies.space for copies in found}]
    names = {"copies": "near-copies", "mia_advantage": "gain of an attacker"}
    told = "; ".join(f"{names[r.key]} in {r.space} {shown(r.estimate)}" for r in [*found, *gains])
    return {"mark": "good", "text": f"Neither copies nor a gain of an attacker were found, which is no proof that nothing leaks: {told}."}


def paired(results: list[Result]) -> Verdict:
    told = "; ".join(
        f"{r.key.replace('_paired', '').replace('_', '-')} {shown(r.estimate)}" for r in results if r.key in PAIRED and r.estimate
    )
    return {
        "mark": "unknown",
        "text": f"Each image held against its own truth, mean over images: {told}. Judge them by what the task needs.",
    }


PAIRED = ("mae", "psnr", "ssim", "ms_ssim_paired", "dice", "hd95")
