"""Are generated images useful? What networks taught by them can do on real patients, beside the same networks taught by reals."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from medgan_pl.core.console import watched
from medgan_pl.metrics.estimate import Estimate, Resampling
from medgan_pl.metrics.utility.classifier import fit_classifier, predict
from medgan_pl.metrics.utility.scores import SeedBootstrap, aucs, balanced_accuracies
from medgan_pl.metrics.utility.segmenter import dice_scores, fit_segmenter, masked, pairs
from medgan_pl.metrics.utility.teaching import Labelled, Masked, Training, checked_labels, labelled, same_kind, small

TEACHERS = ("real", "synthetic", "both")
Scores = Float[Tensor, "seeds values"]


@dataclass(frozen=True)
class Usefulness:
    """`estimates`: key of the catalogue -> value; `floors`: key -> the same number for reals in place of the fakes, where there is one."""

    estimates: dict[str, Estimate]
    floors: dict[str, Estimate]


def usefulness(
    real_train: Labelled,
    real_test: Labelled,
    fake: Labelled,
    classes: int,
    settings: Training,
    resampling: Resampling,
    device: torch.device | str = "cpu",
) -> Usefulness:
    """Measure what a small classifier learns from fakes, from reals and from both, tested on real patients none of them came from.

    - auc_real, auc_synthetic, auc_both: taught by `real_train`, by `fake`, by batches half of each; tested on `real_test`.
    - auc_gain: auc_both - auc_real. auc_reverse: taught by `real_train`, tested on `fake`.
    - agreement: balanced accuracy of the classifier taught by `real_train` on `fake`, whose labels are those that were asked for.

    Floors: auc_real, and of agreement the balanced accuracy of the same classifiers on `real_test`. All are means over `settings.seeds`
    trainings of equally many steps; sets are used as they are given, up to `settings.max_images` each for teaching, so give as many fakes
    as reals where numbers are to be compared. For intervals see `SeedBootstrap`: seeds, and patients by the `groups` of the set tested on;
    of `resampling` only `draws` and `seed` are used. Images above 64 a side (32 in 3-D) are averaged down to it.
    Raises ValueError, before any training, for missing labels, under 20 images of a class to teach from, a test set of one class,
    NaN and unequal sizes.

    Source: Esteban et al. 2017 (arXiv 1706.02633), section 4 (TSTR, TRTS); Ravuri & Vinyals 2019 (arXiv 1905.10887), whose classification
    accuracy score is a plain accuracy of a ResNet-50 taught by fakes: ours is small, and the AUC does not depend on how rare a disease is.
    """
    real_train = labelled(real_train, classes, settings.max_images, "real training set")
    fake = labelled(fake, classes, settings.max_images, "generated set")
    labels = checked_labels(real_test, classes, "real test set")
    if len(labels.unique()) < 2:
        raise ValueError(f"the real test set must hold cases of 2 classes or more, got {len(labels)} of class {labels[:1].tolist()} alone")
    real_test = replace(real_test, images=small(real_test.images), labels=labels)
    same_kind({"real training": real_train.images, "real test": real_test.images, "generated": fake.images})
    taught = {"real": [real_train], "synthetic": [fake], "both": [real_train, fake]}
    on_test, on_fake = defaultdict(list), []
    for teacher, seed in watched(_trainings(settings), len(TEACHERS) * settings.seeds, "teaching classifiers"):
        network = fit_classifier(taught[teacher], classes, settings, seed, device)
        on_test[teacher].append(predict(network, real_test.images))
        if teacher == "real":
            on_fake.append(predict(network, fake.images))
    stacked = {teacher: torch.stack(each) for teacher, each in on_test.items()}
    return usefulness_of(stacked, real_test, torch.stack(on_fake), fake, resampling)


def usefulness_of(
    on_test: Mapping[str, Float[Tensor, "seeds n classes"]],
    real_test: Labelled,
    on_fake: Float[Tensor, "seeds m classes"],
    fake: Labelled,
    resampling: Resampling,
) -> Usefulness:
    """`usefulness` from the probabilities given to the cases: `on_test` by who taught the classifier, `on_fake` by the one of reals."""
    seeds = len(on_fake)
    test, generated = (SeedBootstrap(seeds, len(part.labels), part.groups, resampling) for part in (real_test, fake))
    scores = {teacher: _each(aucs, seen, real_test, test) for teacher, seen in on_test.items()}
    estimates = {f"auc_{teacher}": test.estimate(scores[teacher]) for teacher in TEACHERS}
    estimates["auc_gain"] = test.estimate(scores["both"] - scores["real"])
    estimates["auc_reverse"] = generated.estimate(_each(aucs, on_fake, fake, generated))
    estimates["agreement"] = generated.estimate(_each(balanced_accuracies, on_fake, fake, generated))
    floors = dict.fromkeys(("auc_synthetic", "auc_both", "auc_reverse"), estimates["auc_real"])
    floors["agreement"] = test.estimate(_each(balanced_accuracies, on_test["real"], real_test, test))
    return Usefulness(estimates, floors)


def segment_usefulness(
    real_train: Masked, real_test: Masked, fake: Masked, settings: Training, resampling: Resampling, device: torch.device | str = "cpu"
) -> Usefulness:
    """The same question of pairs of image and mask: dice_real, dice_synthetic and dice_both are the Dice of a small U-Net taught by reals,
    by fakes, by batches half of each, averaged over the images of `real_test`; the floor is dice_real.

    An image without the structure counts 1 where nothing is found and 0 where something is. Images above 64 a side (32 in 3-D) are averaged
    down before they are shown, the Dice is taken on masks of full size. Intervals and errors as in `usefulness`; 20 pairs to teach from.
    """
    real_train, fake = (
        replace(part, images=images, masks=masks, groups=None)
        for part, what in ((real_train, "real training set"), (fake, "generated set"))
        for images, masks in [masked(part, settings.max_images, what)]
    )
    test_images, _ = pairs(real_test, torch.arange(len(real_test.images)), "real test set")
    same_kind({"real training": real_train.images, "real test": test_images, "generated": fake.images})
    real_test = replace(real_test, images=test_images)
    taught = {"real": [real_train], "synthetic": [fake], "both": [real_train, fake]}
    found = defaultdict(list)
    for teacher, seed in watched(_trainings(settings), len(TEACHERS) * settings.seeds, "teaching segmenters"):
        found[teacher].append(dice_scores(fit_segmenter(taught[teacher], settings, seed, device), real_test))
    return segment_usefulness_of({teacher: torch.stack(each) for teacher, each in found.items()}, real_test.groups, resampling)


def segment_usefulness_of(dice: Mapping[str, Float[Tensor, "seeds n"]], groups: Tensor | None, resampling: Resampling) -> Usefulness:
    """`segment_usefulness` from the Dice of each seed and test image, by who taught the segmenter."""
    seeds, count = dice["real"].shape
    bootstrap = SeedBootstrap(seeds, count, groups, resampling)
    shares = (bootstrap.weights / bootstrap.weights.sum(1, keepdim=True)).T
    estimates = {f"dice_{teacher}": bootstrap.estimate(dice[teacher].double() @ shares) for teacher in TEACHERS}
    return Usefulness(estimates, dict.fromkeys(("dice_synthetic", "dice_both"), estimates["dice_real"]))


def _trainings(settings: Training) -> list[tuple[str, int]]:
    return [(teacher, seed) for seed in range(settings.seeds) for teacher in TEACHERS]


def _each(
    score: Callable[..., Tensor], probabilities: Float[Tensor, "seeds n classes"], cases: Labelled, bootstrap: SeedBootstrap
) -> Scores:
    """The score of each seed, by every row of the weights."""
    return torch.stack([score(each, cases.labels, bootstrap.weights) for each in probabilities])
