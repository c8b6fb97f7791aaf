"""The catalogue of metrics: title, better direction, how to read the value, and the class that computes it. Formulas:
docs/evaluation.md."""

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
    - `measure`: the class that computes a metric of features, built without arguments (`measure.Measure`). `evaluate` then measures it
      in every space, and the report shows it.
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
    "privacy": "Do they reveal patients?",
    "paired": "Is each image the right one?",
}

CATALOGUE = {
    "fd": Entry(
        "Fréchet distance",
        "fidelity",
        "lower",
        "The distance between the distributions of real and generated images, in mean and spread. It reacts to looks and to variety and "
        "does not show which is wrong. It depends on the number of images: compare it with the floor, not with other papers.",
        0,
        measure=Frechet,
    ),
    "kid": Entry(
        "Kernel distance (KID)",
        "fidelity",
        "lower",
        "The same question by a distance whose mean does not depend on the number of images; about 0 means no difference was found. "
        "It hardly reacts to a generator that repeats a few good images.",
        measure=Kernel,
    ),
    "precision": Entry(
        "Precision",
        "fidelity",
        "higher",
        "The share of generated images that lie where real ones lie. One unusual real image can stretch that region; density is more "
        "robust.",
        0,
        1,
        measure=PrecisionRecall,
    ),
    "density": Entry(
        "Density",
        "fidelity",
        "higher",
        "How closely real images surround the generated ones: about 1 for reals, higher if the generator makes only the most typical "
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
        "The share of real images with a generated one in their neighborhood: the share of patients that the generator can represent.",
        0,
        1,
        measure=DensityCoverage,
    ),
    "ms_ssim": Entry(
        "Similarity of pairs (MS-SSIM)",
        "diversity",
        "floor",
        "How similar two generated images are on average. Best is the similarity of two real ones; far above it, the generator repeats "
        "itself. Noise makes images look varied, blur makes them look alike.",
        0,
        1,
    ),
    "auc_real": Entry(
        "Classifier trained on reals (AUC)",
        "use",
        "higher",
        "The value to compare with: a small classifier trained on real images, tested on real patients it never saw.",
        0,
        1,
    ),
    "auc_synthetic": Entry(
        "Classifier trained on generated images (AUC)",
        "use",
        "higher",
        "The same classifier trained on generated images alone, tested on the same real patients. Near the value of real images, the "
        "requested labels show in the generated ones. Copies of training images do well here.",
        0,
        1,
    ),
    "auc_both": Entry(
        "Classifier trained on both (AUC)",
        "use",
        "higher",
        "Trained on real and generated images together.",
        0,
        1,
    ),
    "auc_gain": Entry(
        "Gain from generated images (AUC)",
        "use",
        "higher",
        "Trained on both, minus trained on reals alone. An interval that contains 0 means that no gain was shown.",
        -1,
        1,
    ),
    "auc_reverse": Entry(
        "Trained on reals, tested on generated (AUC)",
        "use",
        "higher",
        "How well a classifier of real images recognizes the classes of the generated ones. Above its value on real patients, the "
        "generated images are easier, that is more typical, than patients are.",
        0,
        1,
    ),
    "agreement": Entry(
        "Agreement with the requested class",
        "use",
        "higher",
        "The share of generated images, averaged over the classes, in which a classifier of real images sees the requested class. Its "
        "share on real patients is the most that can be expected.",
        0,
        1,
    ),
    "dice_real": Entry(
        "Segmenter trained on reals (Dice)",
        "use",
        "higher",
        "Trained on real pairs, tested on held-out real pairs: the value to compare with.",
        0,
        1,
    ),
    "dice_synthetic": Entry(
        "Segmenter trained on generated pairs (Dice)", "use", "higher", "Trained on generated pairs alone, tested on the same reals.", 0, 1
    ),
    "dice_both": Entry("Segmenter trained on both (Dice)", "use", "higher", "Trained on real and generated pairs together.", 0, 1),
    "nn_ratio": Entry(
        "Distance to the nearest training image, relative",
        "privacy",
        "floor",
        "How near generated images come to a training image, divided by how near unseen patients come to one: 1 is like an unseen "
        "patient, well below 1 is too near. Blurred images come nearer without copying: look at the pairs.",
        0,
    ),
    "copies": Entry(
        "Near-copies of training images",
        "privacy",
        "lower",
        "The share of generated images nearer to a training image than all but 1 % of unseen patients are, in either mirror image. About "
        "1 % is chance. Small changes of an image can hide a copy from it: look at the pairs.",
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
        "Membership inference: who was in the training set (AUC)",
        "privacy",
        "floor",
        "How well an attacker who sees only generated images distinguishes training patients from unseen ones: 0.5 is chance. The "
        "control is the same attack on two groups that were never seen, because groups may differ by themselves.",
        0,
        1,
    ),
    "mia_advantage": Entry(
        "Gain of the attacker over the control",
        "privacy",
        "lower",
        "The attack minus its control. An interval that contains 0 means that no leak to this attack was shown; a better one may do more.",
        -1,
        1,
    ),
    "mae": Entry("Mean absolute error", "paired", "lower", "The mean difference, voxel by voxel, in the unit shown.", 0),
    "psnr": Entry(
        "Peak signal-to-noise ratio (dB)",
        "paired",
        "higher",
        "The mean squared difference on a logarithmic scale; blur changes it little.",
        0,
    ),
    "ssim": Entry("Structural similarity", "paired", "higher", "Similarity of local brightness, contrast and structure.", -1, 1),
    "ms_ssim_paired": Entry("Structural similarity over scales", "paired", "higher", "The same from fine to coarse.", 0, 1),
    "dice": Entry("Dice overlap", "paired", "higher", "Overlap of the masks; 0 none, 1 equal.", 0, 1),
    "hd95": Entry(
        "Hausdorff distance, 95 %", "paired", "lower", "The distance between the outlines, without the worst 5 %, in the unit shown.", 0
    ),
}


def clipped(key: str, estimate: Estimate) -> Estimate:
    """Return the estimate with its interval cut to the range of the metric: a distance cannot be below 0."""
    minimum, maximum = CATALOGUE[key].minimum, CATALOGUE[key].maximum
    low = estimate.low if minimum is None else max(estimate.low, minimum)
    return replace(estimate, low=low, high=estimate.high if maximum is None else min(estimate.high, maximum))


def measures(*, validated: bool = False) -> list[Measure]:
    """Return one instance of each class that computes metrics of features, in the order of the catalogue; with `validated`, only those that
    a run computes in validation."""
    classes = [entry.measure for entry in CATALOGUE.values() if entry.measure and (entry.validated or not validated)]
    return [each() for each in dict.fromkeys(classes)]
