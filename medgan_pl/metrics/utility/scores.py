"""Scores of given probabilities, with intervals over training seeds and test patients together; nothing is trained here."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medgan_pl.metrics.estimate import LEVEL, Estimate, Resampling

Probabilities = Float[Tensor, "n classes"]
Labels = Int[Tensor, " label_count"]


def auc(probabilities: Probabilities, labels: Labels) -> Float[Tensor, ""]:
    """Return the area under the ROC curve, float64: 0.5 is chance, 1 is perfect.

    Two classes: the share of pairs, one of class 1 and one of class 0, in which the first has the higher probability of class 1; ties count
    half (Mann & Whitney 1947; Hanley & McNeil 1982, Radiology 143:29). More classes: the plain mean, over the classes that occur in
    `labels`, of each class against all others. Raises ValueError for one class only and NaN.
    """
    _validate(probabilities, labels)
    if len(labels.unique()) < 2:
        raise ValueError(f"an AUC needs cases of 2 classes or more, got {len(labels)} of class {labels[:1].tolist()} alone")
    return aucs(probabilities, labels, torch.ones(1, len(labels), dtype=torch.float64))[0]


def aucs(probabilities: Probabilities, labels: Labels, weights: Float[Tensor, "draws n"]) -> Float[Tensor, " draws"]:
    """Return for each draw d the `auc` with case i counted `weights[d, i]` times; NaN if only one class is left."""
    classes = [1] if probabilities.shape[1] == 2 else range(probabilities.shape[1])
    return torch.stack([_one_against_rest(probabilities[:, c], labels == c, weights) for c in classes]).nanmean(0)


def balanced_accuracies(probabilities: Probabilities, labels: Labels, weights: Float[Tensor, "draws n"]) -> Float[Tensor, " draws"]:
    """Return the share of cases whose most probable class is their label, averaged over the classes that occur; case i counts `weights[d,
    i]` times. A guess reaches one over the number of classes."""
    _validate(probabilities, labels)
    right = (probabilities.argmax(1) == labels).double()
    of_class = (labels[:, None] == torch.arange(probabilities.shape[1])).double()  # (N, classes)
    return ((weights * right) @ of_class / (weights @ of_class)).nanmean(1)


def _one_against_rest(
    score: Float[Tensor, " n"], positive: Bool[Tensor, " n"], weights: Float[Tensor, "draws n"]
) -> Float[Tensor, " draws"]:
    values, place = score.unique(return_inverse=True)  # ascending; equal scores share a place
    up, down = (weights.new_zeros(len(weights), len(values)).index_add_(1, place, weights * side) for side in (positive, ~positive))
    won = (up * (down.cumsum(1) - down / 2)).sum(1)
    return won / (up.sum(1) * down.sum(1))  # 0 / 0 = NaN where a side is empty


def _validate(probabilities: Tensor, labels: Tensor) -> None:
    if len(probabilities) != len(labels):
        raise ValueError(f"there must be one label for each case, got {len(labels)} labels for {len(probabilities)} cases")
    if not torch.isfinite(probabilities).all():
        raise ValueError("the probabilities contain NaN or infinity: the training diverged; use fewer or smaller steps")


class SeedBootstrap:
    """Bootstrap of a mean over training seeds: resamples the seeds and, within each draw, the `n` test cases, as whole `groups` (patients)
    if given.

    `weights` (1 + draws, n) float64: how often each case counts; the first row counts each once and gives the value itself. All scores of
    one SeedBootstrap share the same draws, so their differences are paired.
    Source: Bouthillier et al. 2021 (arXiv 2103.03098): seed and test set are the sources of variance in a comparison; Efron & Tibshirani
    1993, chapter 13 (percentile interval). The variation between training patients is not included: it would need other data. With k seeds
    the spread between them is √((k-1)/k) times too small: 0.89 with 5.
    """

    def __init__(self, seeds: int, n: int, groups: Tensor | None, resampling: Resampling) -> None:
        generator = torch.Generator().manual_seed(resampling.seed)
        place = torch.arange(n) if groups is None else groups.cpu().unique(return_inverse=True)[1]  # (N,): the patient of each case
        patients = int(place.max()) + 1
        drawn = torch.randint(patients, (resampling.draws, patients), generator=generator)
        often = torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape, dtype=torch.float64))
        self.weights = torch.cat([torch.ones(1, n, dtype=torch.float64), often[:, place]])
        self.drawn = torch.randint(seeds, (resampling.draws, seeds), generator=generator)

    def estimate(self, scores: Float[Tensor, "seeds values"]) -> Estimate:
        """Return the mean over seeds of `scores` (seeds, 1 + draws), one row a seed, one column a row of `weights`.

        Draws with NaN, in which only one class occurred, are left out. Raises ValueError if they are more than half.
        """
        draws = scores[:, 1:].T.gather(1, self.drawn).mean(1)
        draws = draws[~draws.isnan()]
        if 2 * len(draws) < len(self.drawn):
            raise ValueError("an interval needs test cases of each class from several patients: more than half of the draws lack a class")
        ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=draws.dtype)
        low, high = draws.quantile(ends).tolist()
        return Estimate(float(scores[:, 0].mean()), low, high)
