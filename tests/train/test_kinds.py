"""A setting of another kind than its class declares is refused by its key, before anything is built."""

import copy
from numbers import Real
from typing import Any, SupportsIndex

import pytest

from medgan_pl.data.randomize import Randomize
from medgan_pl.models.build import build_module
from medgan_pl.train.checks import check_settings
from medgan_pl.train.kinds import check_node

SMALL = ("data.size=16", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "trainer=cpu", "penalty=r1")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("optimizer_g.lr", "abc", "`optimizer_g.lr` must be a number"),
        ("optimizer_d.momentum", None, "`optimizer_d.momentum` must be a number, got None"),
        ("optimizer_g.betas", [0.5, "x"], "`optimizer_g.betas` must be a list"),
        ("optimizer_g.betas", 0.5, "`optimizer_g.betas` must be a list"),
        ("optimizer_g.fused", "maybe", "`optimizer_g.fused` must be true or false or null, got 'maybe'"),
        ("optimizer_g.foo", 1, "`optimizer_g.foo` is no setting of Adam; it has .*betas"),
        ("penalty.foo", 1, "`penalty.foo` is no setting of R1; it has weight"),
        ("penalty.weight", True, "`penalty.weight` must be a number, got True"),
        ("trainer.max_time", 5, "`trainer.max_time` must be a text or"),
        ("trainer.max_time", "5 hours", "`trainer.max_time` must be DD:HH:MM:SS, such as 00:12:00:00 for half a day, got '5 hours'"),
        ("trainer.precision", "bf17", "`trainer.precision` must be one of .*bf16-mixed"),
        ("trainer.deterministic", 7, "`trainer.deterministic` must be"),
        ("schedule_g.until", "x", "`schedule_g.until` is no setting of|`schedule_g.until` must be"),
        ("callbacks.samples.n", "many", "`callbacks.samples.n` must be a whole number"),
        ("average.halflife_images", "long", "`average.halflife_images` must be"),
        ("data.laterality", "left", "`data.laterality` must be true or false"),
    ],
)
def test_a_value_of_another_kind_is_refused(settings, key: str, value: Any, said: str) -> None:
    config = copy.deepcopy(settings(*SMALL))
    check_settings(config)
    *above, last = key.split(".")
    node = config
    for name in above:
        node = node[name]
    node[last] = value
    with pytest.raises(ValueError, match=said):
        check_settings(config)


class Lenient:
    def __init__(self, plain, wide: Any, real: Real, able: SupportsIndex, other: object = None) -> None: ...


def test_a_class_of_the_user_without_annotations_or_with_wide_ones_takes_any_value() -> None:
    check_node("mine", {"_target_": f"{__name__}.Lenient", "plain": 0.01, "wide": "x", "real": 0.5, "able": 3, "other": True})
    with pytest.raises(ValueError, match=r"`mine.real` must be settings of an object, got 'x'"):
        check_node("mine", {"_target_": f"{__name__}.Lenient", "real": "x"})


def test_a_number_that_an_optimizer_does_not_take_is_named(settings) -> None:
    module = build_module(settings(*SMALL, "optimizer_g.lr=-1"))
    with pytest.raises(ValueError, match="`optimizer_g` must be settings that its optimizer takes: Invalid learning rate: -1"):
        module.configure_optimizers()


@pytest.mark.parametrize(("name", "value"), [("flip", "maybe"), ("flip", 1), ("noise", "loud"), ("scale", True)])
def test_an_augmentation_of_another_kind_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"data.augment.{name} must"):
        Randomize(**{name: value})
