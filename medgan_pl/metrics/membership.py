"""Privacy: membership inference, an attack that decides by a score whether an image was in the training set. Training images score higher.

The caller supplies the scores: `closeness` for an attacker who sees only generated images; the discriminator's logits of the images for one
who also has the discriminator (LOGAN, Hayes et al. 2019, arXiv 1705.07663).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from medgan_pl.metrics.estimate import Estimate, Resampling, cases
from medgan_pl.metrics.memorization import MIN_IMAGES, nearest_of_views


def closeness(views: Sequence[Float[Tensor, "n f"]], fakes: Float[Tensor, "m f"]) -> Float[Tensor, " n"]:
    """Return the score of each image: minus the distance from its nearest view in `views` (itself, its mirror image) to the nearest of
    `fakes`.

    All scores that are compared must use the same fakes; more fakes make the attack stronger. Raises ValueError as
    `memorization.nearest_of_views`. Source: GAN-Leaks, Chen et al. 2020 (arXiv 1909.03935), the full black-box attack.
    """
    return -nearest_of_views(views, fakes)[0]


def membership_auc(members: Float[Tensor, " n"], non_members: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Return the share of pairs in which the member has the higher score, ties half; float64. 0.5 is chance, 1 a perfect attack (Mann &
    Whitney 1947).

    Raises ValueError for an empty set, NaN or infinity.
    """
    if not (len(members) and len(non_members) and torch.isfinite(members).all() and torch.isfinite(non_members).all()):
        raise ValueError(f"scores must be finite, one or more of each, got {len(members)} and {len(non_members)}, or some NaN or infinity")
    ordered, members = non_members.double().sort().values, members.double().contiguous()
    below, up_to = (torch.searchsorted(ordered, members, right=right).double() for right in (False, True))
    return (below + up_to).mean() / (2 * len(ordered))


def membership_advantage(
    train: Float[Tensor, " n"],
    test: Float[Tensor, " m"],
    control: Float[Tensor, " k"],
    resampling: Resampling,
    groups: tuple[Tensor | None, Tensor | None, Tensor | None] = (None, None, None),
) -> dict[str, Estimate]:
    """Return `mia_auc`, how well scores separate `train` from `test` patients; `mia_control`, `control` from `test`; `mia_advantage`, the
    first minus the second: -1 to 1, 0 if the attack gains nothing from the training.

    `test` and `control` are two splits that the generator never saw. An AUC alone means little: it differs from 0.5 wherever two groups of
    patients differ in disease, scanner or year, or contain rarer images, without any leak. The control is the same attack without anything
    to leak, against the same `test` images, so their peculiarities cancel in the difference. It can only represent `train` if the three
    were split at random, by patient.
    Intervals: the patients of each set are resampled (`groups` of `train`, `test` and `control`; those of `resampling` are not used), with
    the same draws for all three numbers. They do not include the chance in drawing fakes and in training.
    Raises ValueError for fewer than 10 scores of a set, NaN or infinity.
    """
    sets = train.double(), test.double(), control.double()
    if min(len(scores) for scores in sets) < MIN_IMAGES:
        raise ValueError(
            f"a membership AUC needs {MIN_IMAGES} scores or more of each set, got {', '.join(str(len(scores)) for scores in sets)}"
        )

    def values(train: Tensor, test: Tensor, control: Tensor) -> Tensor:
        attack, blind = membership_auc(train, test), membership_auc(control, test)
        return torch.stack([attack, blind, attack - blind])

    n_train, n_test, n_control = (cases(len(scores), own) for scores, own in zip(sets, groups, strict=True))
    attack, blind, gain = resampling.of_samples(values, sets, groups)
    attack, blind = attack.as_share(min(n_train, n_test)), blind.as_share(min(n_control, n_test))  # an AUC is a share of pairs
    if gain.low == gain.high:  # both at an end
        gain = Estimate(gain.value, max(-1.0, attack.low - blind.high), min(1.0, attack.high - blind.low))
    return {"mia_auc": attack, "mia_control": blind, "mia_advantage": gain}
