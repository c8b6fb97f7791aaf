"""Warnings during training: mode collapse of G, a dead D, overfitting of D."""

import logging
from collections.abc import Iterator, Mapping

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from medgan_pl.core.batch import Batch
from medgan_pl.core.counts import whole_number
from medgan_pl.core.keys import Purpose
from medgan_pl.models.losses.adversarial import accuracy
from medgan_pl.models.module import AdversarialModule

log = logging.getLogger(__name__)

Row = Mapping[str, float]

# Thresholds of the warnings; docs/metrics.md has the runs they were chosen on.
COLLAPSED = 0.5  # of the way from the similarity of real pairs to equal fakes
OVERFITTED = 0.6  # the target of Karras et al. 2020 (arXiv 2006.06676) for r_t, which like r is 0 without overfitting and at most 1
CHANCE = 0.05  # of an accuracy, on either side of one half
NO_GRADIENT = 1e-4  # norm of D's gradient
CONSTANT = 1e-6  # standard deviation of all logits
IN_A_ROW = 2  # validations; a single one may be due to chance


class Monitors(pl.Callback):
    """Log at each validation the norms of the weights and how well D orders reals and fakes, and warn of collapse, a dead D and
    overfitting.

    Logged: `val/g/weight_norm`, `val/d/weight_norm` (Euclidean, all weights); `val/d/accuracy_train`, `val/d/accuracy_held_out` (the share
    of pairs of a real and a fake that D orders correctly: 0.5 chance, 1 perfect); `val/d/overfitting`, see `overfitting`. D is evaluated in
    evaluation mode, in float32, on the same `n` training and `n` held-out images each time (all, if there are fewer) and on as many fakes
    of the EMA generator, from the same noise. A warning is logged once when a state has lasted two validations, and once when it ends.

    No weight, buffer or mode changes; only rank 0 evaluates. Must precede the callback that saves: its state goes into the checkpoint, so
    that a resumed run warns as if it had not stopped. Raises ValueError for `n` under 2.
    """

    def __init__(self, *, n: int = 64) -> None:
        self.n = whole_number("callbacks.monitors.n", n, 2)
        self.in_a_row = {"collapse": 0, "a dead D": 0, "over-fitting of D": 0}  # validations

    def state_dict(self) -> dict[str, int]:
        return dict(self.in_a_row)

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.in_a_row = dict(state)

    @rank_zero_only
    def on_validation_end(self, trainer: pl.Trainer, module: AdversarialModule) -> None:
        if trainer.state.fn != "fit" or not module.stages[module.stage].adversarial:  # no D to evaluate
            return
        train, held_out, fake = logits_of(module, *(trainer.datamodule.peek(split, self.n) for split in ("train", "val")))
        row, judge = (
            {f"val/{name}/weight_norm": weight_norm(network) for name, network in module.networks.items()},
            module.game.discriminator,
        )
        row |= {
            f"val/{judge}/accuracy_train": float(accuracy(train, fake)),
            f"val/{judge}/accuracy_held_out": float(accuracy(held_out, fake)),
        }
        share = overfitting(train, held_out, fake)
        if share is not None:
            row[f"val/{judge}/overfitting"] = share
        module.write_row(row)
        spread = float(torch.cat([train, held_out, fake]).std())
        self.warn("collapse", collapsed(module.row), module.images)
        self.warn("a dead D", dead(module.row, spread, judge), module.images)
        self.warn("over-fitting of D", overfitted(row, judge), module.images)

    def warn(self, state: str, message: str, images: int) -> None:
        """Warn when `state` has lasted IN_A_ROW validations, and when it then ends; `message` is empty without the state."""
        before = self.in_a_row[state]
        self.in_a_row[state] = before + 1 if message else 0
        if self.in_a_row[state] == IN_A_ROW:
            log.warning("%9d images  %s", images, message)
        elif before >= IN_A_ROW and not message:
            log.warning("%9d images  %s is over", images, state)


# The evaluated values ----------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def logits_of(module: AdversarialModule, train: Batch, held_out: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Return D's logits, one an image (the mean of a map), of the training images, of the held-out images, and of fakes for the batch of
    training images. Networks stay in their mode: Lightning's validation has set evaluation mode."""
    size = module.trainer.datamodule.batch_size
    train = module.game.draw_each(train, module.seed, range(len(train["image"])), Purpose.VALIDATION)
    reals, fakes, others = [], [], []
    for part in parts(train, size, module.device):
        reals.append(of_reals(module, part))
        seen, made = module.game.of_fakes(part, module.generate(part))
        fakes.append(module.game.critic(module.networks[module.game.discriminator], seen)(made))
    for part in parts(held_out, size, module.device):
        others.append(of_reals(module, part))
    logits = (torch.cat(each).float() for each in (reals, others, fakes))
    return tuple(each.reshape(len(each), -1).mean(1) for each in logits)


def of_reals(module: AdversarialModule, batch: Batch) -> Tensor:
    """Return D's logits of the reals that it learns from."""
    seen = module.game.of_reals(batch)
    return module.game.critic(module.networks[module.game.discriminator], seen)(module.game.real(seen))


def parts(batch: Batch, size: int, device: torch.device) -> Iterator[Batch]:
    """Yield the batch in parts of `size` images, each on the device only while it is needed."""
    for start in range(0, len(batch["image"]), size):
        yield {key: value[start : start + size].to(device) for key, value in batch.items()}


def weight_norm(network: nn.Module) -> float:
    """Return √ Σ w² over all weights."""
    return float(torch.stack(torch._foreach_norm([weight.detach().float() for weight in network.parameters()])).norm())


def overfitting(train: Tensor, held_out: Tensor, fake: Tensor) -> float | None:
    """Return r = (E[D(train)] - E[D(held out)]) / (E[D(train)] - E[D(fake)]) of logits (N,): 0 if D judges unseen reals like those it
    learns from, 1 if it judges them like fakes.

    None if D does not distinguish training images from fakes, that is if the difference is under twice its standard error: r would be
    noise.
    Source: Karras et al. 2020 (arXiv 2006.06676), eq. 1.
    """
    gap = train.mean() - fake.mean()
    error = (train.var() / len(train) + fake.var() / len(fake)).sqrt()
    return float((train.mean() - held_out.mean()) / gap) if gap > 2 * error else None


# The messages: the numbers and the remedies, "" without a problem ----------------------------------------------------------------------


def collapsed(row: Row) -> str:
    fake, real = row.get("val/ms_ssim_fake", 0.0), row.get("val/ms_ssim_real", 0.0)
    if not fake - real > COLLAPSED * (1 - real):  # also where there are too few images to tell
        return ""
    return (
        f"collapse: fakes are more similar than reals (MS-SSIM between pairs {fake:.2f} against {real:.2f}, 1 is equal images): G repeats "
        "itself. Return to an earlier checkpoint, and try penalty=r1 penalty.weight=1, a lower optimizer_g.lr, d_per_g=2, "
        "objective=relative, a larger data.batch_size"
    )


def dead(row: Row, spread: float, judge: str = "d") -> str:
    right, norm = row[f"val/{judge}/accuracy_held_out"], row.get(f"train/{judge}/gradient_norm", 1.0)
    if spread > CONSTANT and (abs(right - 0.5) > CHANCE or norm > NO_GRADIENT):
        return ""
    return (
        f"a dead D: it orders {right:.2f} of the pairs of a real and a fake correctly (0.5 is chance), its logits spread by "
        f"{spread:.2g} and its gradient norm is {norm:.2g}: G learns nothing. Start again with a lower optimizer_d.lr, clip_d=1, "
        "a lower penalty.weight, or optimizer@optimizer_d=adam optimizer_d.lr=2e-4"
    )


def overfitted(row: Row, judge: str = "d") -> str:
    share = row.get(f"val/{judge}/overfitting", 0.0)
    if share <= OVERFITTED:
        return ""
    train, held_out = row[f"val/{judge}/accuracy_train"], row[f"val/{judge}/accuracy_held_out"]
    return (
        f"over-fitting of D: held-out reals are {share:.2f} of the way from training images to fakes (accuracy {train:.2f} in training, "
        f"{held_out:.2f} held out): D memorizes its images. Try more data, augment=ada, penalty=r1 penalty.weight=1, a lower "
        "optimizer_d.lr, a smaller model.width; best.ckpt may be the better one"
    )
