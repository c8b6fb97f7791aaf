"""Utility: the results on real patients of networks that were trained on the fakes; see `metrics/utility/`."""

from collections.abc import Callable
from dataclasses import dataclass

from medgan_pl.data.sets import ImageSet, joined
from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.result import Result
from medgan_pl.metrics.utility.teaching import Labeled, Masked, Training
from medgan_pl.metrics.utility.utility import Utility, classifier_utility, segmenter_utility

OF_CLASSES = ("auc_real", "auc_synthetic", "auc_both", "auc_gain", "auc_reverse", "agreement")
OF_MASKS = ("dice_real", "dice_synthetic", "dice_both")


@dataclass(frozen=True)
class TrainingPlan:
    """The plan by which the networks are trained: `training`; `draws` bootstrap samples for the intervals, keyed by `seed`; on `device`."""

    training: Training
    draws: int
    seed: int
    device: str


def judge_utility(sets: Sets, plan: TrainingPlan, announce: Callable[[str], None]) -> list[Result]:
    """Return the results of classifiers, and of segmenters if any side has masks. All held-out reals are the test set."""
    test = joined(sets.reference, sets.floor)
    results = _results(OF_CLASSES, sets, test, why_no_classes(sets), lambda: by_class(sets, test, plan, announce))
    if any(images is not None and images.masks is not None for images in (sets.fake, sets.train, test)):
        results += _results(OF_MASKS, sets, test, why_no_masks(sets, test), lambda: by_mask(sets, test, plan, announce))
    return results


def _results(keys: tuple[str, ...], sets: Sets, test: ImageSet, why: str, measure: Callable[[], Utility]) -> list[Result]:
    """Return the results of `measure`, or undefined ones if `why` is given or the measure refuses."""
    try:
        found = None if why else measure()
    except ValueError as error:
        found, why = None, str(error)
    if found is None:
        return [Result(key, undefined=why) for key in keys]
    counts = {"n_fake": len(sets.fake), "n_real": len(test)}
    return [Result(key, estimate=found.estimates[key], floor=found.floors.get(key), **counts) for key in keys]


def why_no_classes(sets: Sets) -> str:
    """Return why no classifier can be trained on the fakes, "" if one can."""
    if sets.truth is not None:
        return "the images judged were made from those of the patients that a classifier would be tested on"
    if sets.train is None:
        return "needs real training images to compare with; add train=DIR"
    if len(sets.classes) < 2:
        return "needs real images of two classes or more"
    if sets.fake.labels is None:
        return "needs generated images of known class, and this generator draws none on demand (model.classes=0)"
    return ""


def why_no_masks(sets: Sets, test: ImageSet) -> str:
    """Return why no segmenter can be trained on the fakes, "" if one can."""
    if sets.truth is not None:
        return "the images judged were made from those of the patients that a segmenter would be tested on"
    lacking = [
        name for name, images in (("fake", sets.fake), ("train", sets.train), ("real", test)) if images is None or images.masks is None
    ]
    return f"needs masks of every side; add {' '.join(f'masks.{name}=DIR' for name in lacking)}" if lacking else ""


def by_class(sets: Sets, test: ImageSet, plan: TrainingPlan, announce: Callable[[str], None]) -> Utility:
    """Train classifiers on reals, fakes and both, and test them on `test`."""
    announce(f"training {3 * plan.training.seeds} classifiers")
    sides = [Labeled(images, images.labels, images.groups) for images in (sets.train, test, sets.fake)]
    return classifier_utility(*sides, len(sets.classes), plan.training, Resampling(plan.draws, plan.seed), plan.device)


def by_mask(sets: Sets, test: ImageSet, plan: TrainingPlan, announce: Callable[[str], None]) -> Utility:
    """Train segmenters on reals, fakes and both, and test them on `test`."""
    announce(f"training {3 * plan.training.seeds} segmenters")
    sides = [Masked(images, images.masks, images.groups) for images in (sets.train, test, sets.fake)]
    return segmenter_utility(*sides, plan.training, Resampling(plan.draws, plan.seed), plan.device)
