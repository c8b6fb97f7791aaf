"""Every metric of a judgement: its name, which way is better, how to read it, what computes it. docs/evaluation.md has the formulas."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from medgan_pl.metrics.distances import Frechet, Kernel
from medgan_pl.metrics.estimate import Estimate
from medgan_pl.metrics.measure import Measure
from medgan_pl.metrics.neighbours import DensityCoverage, PrecisionRecall


@dataclass(frozen=True)
class Entry:
    """The entry of one metric.

    - `group`: its group in a report. `better`: "lower", "higher", or "floor": as near as possible to the value of held-out reals.
    - `reading`: plain sentences for a radiologist, with the caveat. `minimum`, `maximum`: its range, None for no bound.
    - `measure`: of a metric of features, the class that computes it, built without arguments (`measure.Measure`). `evaluate` then measures
      it in every space, and the report shows it.
    - `validated`: True if every `FeatureSpace` of a run computes it too, without a line in conf/metrics.
    """

    title: str
    group: str
    better: str
    reading: str
    minimum: float | None = None
    maximum: float | None = None
    measure: Callable[[], Measure] | None = None
    validated: bool = False


GROUPS = {
    "fidelity": "Do the images look real?",
    "diversity": "Do they vary as patients do?",
    "use": "Can a program learn from them?",
    "privacy": "Do they give patients away?",
    "paired": "Is each image the right one?",
}

CATALOGUE = {
    "fd": Entry(
        "Fréchet distance",
        "fidelity",
        "lower",
        "How far apart the crowds of real and of generated images are, in mean and spread. It sees looks and variety at once and cannot "
        "tell which of them is wrong. It depends on the number of images: compare it with the floor beside it, not with other papers.",
        0,
        measure=Frechet,
    ),
    "kid": Entry(
        "Kernel distance (KID)",
        "fidelity",
        "lower",
        "The same question by another ruler, whose mean does not depend on the number of images; about 0 the crowds cannot be told apart. "
        "It hardly sees a generator that repeats a few good images.",
        measure=Kernel,
    ),
    "precision": Entry(
        "Precision",
        "fidelity",
        "higher",
        "The share of generated images that lie where real ones lie. One odd real image can stretch that region, so density beside it is "
        "the sturdier number.",
        0,
        1,
        measure=PrecisionRecall,
    ),
    "density": Entry(
        "Density",
        "fidelity",
        "higher",
        "How closely real images surround the generated ones; about 1 for reals, above it where the generator keeps to the most typical "
        "images.",
        0,
        measure=DensityCoverage,
    ),
    "recall": Entry(
        "Recall",
        "diversity",
        "higher",
        "The share of real images that lie where generated ones lie. Scattered bad images can raise it: read it with precision.",
        0,
        1,
        measure=PrecisionRecall,
    ),
    "coverage": Entry(
        "Coverage",
        "diversity",
        "higher",
        "The share of real images with a generated one in their neighbourhood: what part of the patients the generator can stand for.",
        0,
        1,
        measure=DensityCoverage,
    ),
    "ms_ssim": Entry(
        "Likeness of pairs (MS-SSIM)",
        "diversity",
        "floor",
        "How alike two generated images are on average; right is as alike as two real ones, far above is a generator that repeats itself. "
        "Noise makes images look varied, blur makes them look alike.",
        0,
        1,
    ),
    "auc_real": Entry(
        "Classifier taught by reals (AUC)",
        "use",
        "higher",
        "The yardstick: a small classifier taught by real training images, tested on real patients it never saw.",
        0,
        1,
    ),
    "auc_synthetic": Entry(
        "Classifier taught by generated images (AUC)",
        "use",
        "higher",
        "The same classifier taught by generated images alone, tested on the same real patients: near the yardstick, the labels asked for "
        "show in the images. Copies of training images do well here.",
        0,
        1,
    ),
    "auc_both": Entry(
        "Classifier taught by both (AUC)",
        "use",
        "higher",
        "Taught by reals and generated images together.",
        0,
        1,
    ),
    "auc_gain": Entry(
        "What generated images add (AUC)",
        "use",
        "higher",
        "Taught by both, less taught by reals alone. An interval that holds 0 means no gain was shown.",
        -1,
        1,
    ),
    "auc_reverse": Entry(
        "Taught by reals, tested on generated (AUC)",
        "use",
        "higher",
        "Whether the classes of the generated images are where a classifier of real ones looks for them. Above the yardstick the generated "
        "images are easier, that is more typical, than patients are.",
        0,
        1,
    ),
    "agreement": Entry(
        "Class asked for is class seen",
        "use",
        "higher",
        "The share of generated images, classes weighing alike, in which a classifier of real images sees the class that was asked for; "
        "beside it the share on real patients, which it cannot be expected to pass.",
        0,
        1,
    ),
    "dice_real": Entry(
        "Segmenter taught by reals (Dice)", "use", "higher", "The yardstick: taught by real pairs, tested on held-out real pairs.", 0, 1
    ),
    "dice_synthetic": Entry(
        "Segmenter taught by generated pairs (Dice)", "use", "higher", "Taught by generated pairs alone, tested on the same reals.", 0, 1
    ),
    "dice_both": Entry("Segmenter taught by both (Dice)", "use", "higher", "Taught by real and generated pairs together.", 0, 1),
    "nn_ratio": Entry(
        "Distance to the nearest training image, relative",
        "privacy",
        "floor",
        "How near generated images come to a training image, over how near unseen patients come to one: 1 is a stranger, well below 1 is "
        "too near. Blurred images come nearer without copying: look at the pairs.",
        0,
    ),
    "copies": Entry(
        "Near-copies of training images",
        "privacy",
        "lower",
        "The share of generated images nearer to a training image than all but 1 % of unseen patients are, in either mirror image. About "
        "1 % is chance. Small changes of a film can hide a copy from it: look at the pairs.",
        0,
        1,
    ),
    "duplicates": Entry(
        "Generated images that repeat one another",
        "privacy",
        "lower",
        "The share of generated images nearer to another generated one than all but 1 % of unseen patients are to another. About 1 % is "
        "chance.",
        0,
        1,
    ),
    "mia_auc": Entry(
        "Guessing who was in the training set (AUC)",
        "privacy",
        "floor",
        "How well an attacker who only sees generated images tells training patients from unseen ones: 0.5 is blind. Beside it the same "
        "attack on two groups that both were never seen, since groups may differ by themselves.",
        0,
        1,
    ),
    "mia_advantage": Entry(
        "What the attacker gains from the training",
        "privacy",
        "lower",
        "The attack less its control. An interval that holds 0: nothing was shown to leak to this attack; a cleverer one may do better.",
        -1,
        1,
    ),
    "mae": Entry("Mean absolute error", "paired", "lower", "The mean difference, voxel by voxel, in the unit shown.", 0),
    "psnr": Entry(
        "Peak signal-to-noise ratio (dB)", "paired", "higher", "The mean squared difference on a logarithmic scale; it forgives blur.", 0
    ),
    "ssim": Entry("Structural similarity", "paired", "higher", "Likeness of local brightness, contrast and structure.", -1, 1),
    "ms_ssim_paired": Entry("Structural similarity over scales", "paired", "higher", "The same from fine to coarse.", 0, 1),
    "dice": Entry("Dice overlap", "paired", "higher", "Overlap of the masks; 0 none, 1 equal.", 0, 1),
    "hd95": Entry(
        "Hausdorff distance, 95 %", "paired", "lower", "How far the outlines lie apart, the worst 5 % left out, in the unit shown.", 0
    ),
}


def clipped(key: str, estimate: Estimate) -> Estimate:
    """Return the estimate with its interval cut to the range of the metric: a distance cannot be below 0."""
    minimum, maximum = CATALOGUE[key].minimum, CATALOGUE[key].maximum
    low = estimate.low if minimum is None else max(estimate.low, minimum)
    return replace(estimate, low=low, high=estimate.high if maximum is None else min(estimate.high, maximum))


def measures(*, validated: bool = False) -> list[Measure]:
    """Return one of each class that computes metrics of features, in the order of the catalogue; with `validated`, those of validation."""
    classes = [entry.measure for entry in CATALOGUE.values() if entry.measure and (entry.validated or not validated)]
    return [each() for each in dict.fromkeys(classes)]
