import math

import pytest

from medgan_pl.models.schedules import Constant, Cosine, Linear, Stage, stage_at


def test_factors_by_value() -> None:
    assert [Constant()(n, 100) for n in (0, 50, 100)] == [1, 1, 1]
    assert [Constant(warmup_images=10)(n, 100) for n in (0, 4, 9, 50)] == [0.1, 0.5, 1, 1]
    assert [Linear(decay_from=0.5, final=0.0)(n, 100) for n in (0, 50, 75, 100)] == [1, 1, 0.5, 0]
    assert Linear(decay_from=0.0, final=0.2)(50, 100) == pytest.approx(0.6)
    assert [Cosine()(n, 100) for n in (0, 50, 100)] == pytest.approx([1, 0.5, 0])
    assert Cosine(final=0.1)(25, 100) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)


def test_stages_follow_each_other() -> None:
    stages = {"d_only": Stage(players=["d"], images=100), "g_only": Stage(players=["g"], epochs=0.5), "both": Stage(players=["d", "g"])}
    assert [stage_at(stages, n, epoch_images=40) for n in (0, 99, 100, 119, 120, 10**9)] == [
        "d_only",
        "d_only",
        "g_only",
        "g_only",
        "both",
        "both",
    ]


def test_bad_stages() -> None:
    with pytest.raises(ValueError, match="at least one player"):
        Stage(players=[])
    with pytest.raises(ValueError, match="got both"):
        Stage(players=["d"], images=1, epochs=1)
