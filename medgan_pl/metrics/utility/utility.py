"""Utility of generated images: networks trained on them, compared on real patients with the same networks trained on reals."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from medgan_pl.core.console import watched
from medgan_pl.metrics.estimate import Estimate, Resampling, cases
from medgan_pl.metrics.utility.classifier import fit_classifier, predict
from medgan_pl.metrics.utility.scores import SeedBootstrap, aucs, balanced_accuracies
from medgan_pl.metrics.utility.segmenter import dice_scores, fit_segmenter, masked, pairs
from medgan_pl.metrics.utility.teaching import Labeled, Masked, Training, labeled, same_kind, small, validated_labels

TRAINING_SETS = ("real", "synthetic", "both")
Scores = Float[Tensor, "seeds values"]


@dataclass(frozen=True)
class Utility:
    """Results on utility. `estimates`: key of the catalogue -> value. `floors`: key -> the same number for reals in place of the fakes."""

    estimates: dict[str, Estimate]
    floors: dict[str, Estimate]


def classifier_utility(
    real_train: Labeled,
    real_test: Labeled,
    fake: Labeled,
    classes: int,
    settings: Training,
    resampling: Resampling,
    device: torch.device | str = "cpu",
) -> Utility:
    """Measure what a small classifier learns from fakes, from reals and from both, tested on real patients none of them came from.

    - auc_real, auc_synthetic, auc_both: trained on `real_train`, on `fake`, on batches half of each; tested on `real_test`.
    - auc_gain: auc_both - auc_real. auc_reverse: trained on `real_train`, tested on `fake`.
    - agreement: balanced accuracy on `fake` of the classifier trained on `real_train`; the labels of `fake` are the requested ones.

    Floors: auc_real, and for agreement the balanced accuracy of the same classifiers on `real_test`. All are means over `settings.seeds`
    trainings with equal numbers of steps. Sets are used whole, but for training at most `settings.max_images` each: give as many fakes as
    reals if numbers are to be compared. For intervals see `SeedBootstrap`: over seeds, and over patients by the `groups` of the test set;
    of `resampling` only `draws` and `seed` are used. Images above 64 a side (32 in 3-D) are averaged down to it.
    Raises ValueError, before any training, for missing labels, under 20 images of a class to train on, a test set of one class, NaN and
    unequal sizes.

    Source: Esteban et al. 2017 (arXiv 1706.02633), section 4 (TSTR, TRTS); Ravuri & Vinyals 2019 (arXiv 1905.10887), whose classification
    accuracy score is the plain accuracy of a ResNet-50 trained on fakes: ours is small, and the AUC does not depend on how rare a disease
    is.
    """
    real_train = labeled(real_train, classes, settings.max_images, "real training set")
    fake = labeled(fake, classes, settings.max_images, "generated set")
    labels = validated_labels(real_test, classes, "real test set")
    if len(labels.unique()) < 2:
        raise ValueError(f"the real test set must have cases of 2 classes or more, got {len(labels)} of class {labels[:1].tolist()} alone")
    real_test = replace(real_test, images=small(real_test.images), labels=labels)
    same_kind({"real training": real_train.images, "real test": real_test.images, "generated": fake.images})
    sets = {"real": [real_train], "synthetic": [fake], "both": [real_train, fake]}
    on_test, on_fake = defaultdict(list), []
    for trained_on, seed in watched(_trainings(settings), len(TRAINING_SETS) * settings.seeds, "training classifiers"):
        network = fit_classifier(sets[trained_on], classes, settings, seed, device)
        on_test[trained_on].append(predict(network, real_test.images))
        if trained_on == "real":
            on_fake.append(predict(network, fake.images))
    stacked = {trained_on: torch.stack(each) for trained_on, each in on_test.items()}
    return classifier_utility_of(stacked, real_test, torch.stack(on_fake), fake, resampling)


def classifier_utility_of(
    on_test: Mapping[str, Float[Tensor, "seeds n classes"]],
    real_test: Labeled,
    on_fake: Float[Tensor, "seeds m classes"],
    fake: Labeled,
    resampling: Resampling,
) -> Utility:
    """Return the utility by the probabilities of the cases: `on_test` by training set of the classifier, `on_fake` by the classifier of
    reals."""
    seeds = len(on_fake)
    test, generated = (SeedBootstrap(seeds, len(part.labels), part.groups, resampling) for part in (real_test, fake))
    scores = {trained_on: _each(aucs, seen, real_test, test) for trained_on, seen in on_test.items()}
    rarest = _rarest(real_test)
    estimates = {f"auc_{trained_on}": test.estimate(scores[trained_on]).as_share(rarest) for trained_on in TRAINING_SETS}
    estimates["auc_gain"] = test.estimate(scores["both"] - scores["real"])
    estimates["auc_reverse"] = generated.estimate(_each(aucs, on_fake, fake, generated)).as_share(_rarest(fake))
    estimates["agreement"] = generated.estimate(_each(balanced_accuracies, on_fake, fake, generated)).as_share(_rarest(fake))
    floors = dict.fromkeys(("auc_synthetic", "auc_both", "auc_reverse"), estimates["auc_real"])
    floors["agreement"] = test.estimate(_each(balanced_accuracies, on_test["real"], real_test, test)).as_share(rarest)
    return Utility(estimates, floors)


def segmenter_utility(
    real_train: Masked, real_test: Masked, fake: Masked, settings: Training, resampling: Resampling, device: torch.device | str = "cpu"
) -> Utility:
    """Measure the same for pairs of image and mask: dice_real, dice_synthetic and dice_both are the Dice of a small U-Net trained on reals,
    on fakes, on batches half of each, averaged over the images of `real_test`; the floor is dice_real.

    An image without the structure counts 1 if nothing is found and 0 if something is. Images above 64 a side (32 in 3-D) are averaged down
    first; the Dice is computed on masks of full size. Intervals and errors as in `classifier_utility`; 20 pairs to train on.
    """
    real_train, fake = (
        replace(part, images=images, masks=masks, groups=None)
        for part, what in ((real_train, "real training set"), (fake, "generated set"))
        for images, masks in [masked(part, settings.max_images, what)]
    )
    test_images, _ = pairs(real_test, torch.arange(len(real_test.images)), "real test set")
    same_kind({"real training": real_train.images, "real test": test_images, "generated": fake.images})
    real_test = replace(real_test, images=test_images)
    sets = {"real": [real_train], "synthetic": [fake], "both": [real_train, fake]}
    dice = defaultdict(list)
    for trained_on, seed in watched(_trainings(settings), len(TRAINING_SETS) * settings.seeds, "training segmenters"):
        dice[trained_on].append(dice_scores(fit_segmenter(sets[trained_on], settings, seed, device), real_test))
    return segmenter_utility_of({trained_on: torch.stack(each) for trained_on, each in dice.items()}, real_test.groups, resampling)


def segmenter_utility_of(dice: Mapping[str, Float[Tensor, "seeds n"]], groups: Tensor | None, resampling: Resampling) -> Utility:
    """Return the utility by the Dice of each seed and test image, by training set of the segmenter."""
    seeds, count = dice["real"].shape
    bootstrap = SeedBootstrap(seeds, count, groups, resampling)
    shares = (bootstrap.weights / bootstrap.weights.sum(1, keepdim=True)).T
    estimates = {f"dice_{trained_on}": bootstrap.estimate(dice[trained_on].double() @ shares) for trained_on in TRAINING_SETS}
    return Utility(estimates, dict.fromkeys(("dice_synthetic", "dice_both"), estimates["dice_real"]))


def _rarest(part: Labeled) -> int:
    """Return the number of independent cases of the rarest class, on which an AUC and a balanced accuracy rest."""
    of_class = [part.labels == label for label in part.labels.unique()]
    return min(cases(int(own.sum()), None if part.groups is None else part.groups[own]) for own in of_class)


def _trainings(settings: Training) -> list[tuple[str, int]]:
    return [(trained_on, seed) for seed in range(settings.seeds) for trained_on in TRAINING_SETS]


def _each(
    score: Callable[..., Tensor], probabilities: Float[Tensor, "seeds n classes"], cases: Labeled, bootstrap: SeedBootstrap
) -> Scores:
    """Return the score of each seed, for every row of the weights."""
    return torch.stack([score(each, cases.labels, bootstrap.weights) for each in probabilities])
