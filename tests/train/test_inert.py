"""A setting that another one has switched off is refused by its key, with what to do; a default never is."""

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from omegaconf import OmegaConf

from medgan_pl.core.command import default_option
from medgan_pl.core.console import configuration_folder
from medgan_pl.train import inert
from medgan_pl.train.inert import check_idle, chosen_with, generator_of

FILMS = ()
SLICES = ("data=ct",)
VOLUMES = ("data=ct", "image.spatial_dims=3")
PAIRS = ("experiment=dehaze",)
STYLES = ("model=stylegan2",)
NAMED = ("model=acgan",)
R3GAN = ("model=r3gan",)
DOMAINS = ("experiment=star_mr",)
CONTENT = ("experiment=denoise_ct", "stages=content")
THREE = ("stages=three",)
AUGMENTED = ("augment=ramp",)
FIXED = ("augment=fixed",)
ADA = ("augment=ada",)
CONTENT_STAGE = {"content": {"players": ["g"], "adversarial": False}}
HEADS = ("experiment=mr_t1_to_t2",)
RAMP = {"_target_": "medgan_pl.models.schedules.Ramp", "start": 1.0, "end": 0.1, "images": 100, "share": 0.3}
OFF = {"rotate_deg": 0, "scale": 0, "shift": 0, "brightness": 0, "contrast": 0, "cutout": 0}


@cache
def composed(base: tuple[str, ...]) -> dict[str, Any]:
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=["run_dir=run", *base]), resolve=True)


def check(base: tuple[str, ...], changes: dict[str, Any]) -> None:
    """Check the configuration of `base` with the values of `changes` under their dotted keys, as if they had been typed."""
    plain = deepcopy(composed(base))
    for key, value in changes.items():
        *above, last = key.split(".")
        node = plain
        for name in above:
            node = node[name]
        node[last] = value
    check_idle(plain, get_class(plain["game"]["_target_"]))


@pytest.mark.parametrize(
    ("base", "changes", "told"),
    [
        (("model=mlp",), {"schedule_penalty": RAMP}, "`schedule_penalty` changes nothing here, .* use schedule_penalty=null"),
        (FILMS, {"d_auto.accuracy": 0.9}, "`d_auto.accuracy` changes nothing here, got 0.9: d_per_g=1 is a fixed number; .* d_per_g=auto"),
        (FILMS, {"d_per_g": 2, "d_auto.max_turns": 3}, "`d_auto.max_turns` changes nothing here, got 3: d_per_g=2"),
        (FILMS, {"guard.rollbacks": 0, "guard.slow_down": 0.1}, "`guard.slow_down` changes nothing here, got 0.1: guard.rollbacks=0"),
        (FILMS, {"schedule_g": RAMP}, "`schedule_g.share` changes nothing here, got 0.3: schedule_g.images=100 is the length"),
        (R3GAN, {"beta2.share": 0.1}, "`beta2.share` changes nothing here, got 0.1: beta2.images=1000000 is the length"),
        (AUGMENTED, {"augment.strength.ramp": RAMP}, "`augment.strength.ramp.share` changes nothing"),
        (FIXED, {f"augment.{key}": value for key, value in OFF.items()}, "`augment` changes nothing here, .* use augment=none"),
        (STYLES, {"game.path_weight": 0.0, "game.path_every": 8}, "`game.path_every` changes nothing .* with game.path_weight=0.0"),
        (STYLES, {"game.path_weight": 0.0, "game.path_decay": 0.1}, "`game.path_decay` changes nothing"),
        (DOMAINS, {"game.diversity": 0, "game.schedule_diversity.final": 0.5}, "`game.schedule_diversity.final` changes nothing"),
        (NAMED, {"game.fake_weight": 1.0}, r"`game.fake_weight` changes nothing .* game.classes=0 and game.covariates=\[\]"),
        (CONTENT, {"penalty": {"_target_": "medgan_pl.models.losses.penalties.R1", "weight": 1.0}}, "`penalty` .* `d` plays in no stage"),
        (
            CONTENT,
            {"augment": {"_target_": "medgan_pl.models.augment.Augment", "shift": 0.1}},
            "`augment` changes nothing here, .* no stage asks `d`",
        ),
        (CONTENT, {"regularizers": {"lecam": {}}}, "`regularizers` changes nothing"),
        (CONTENT, {"optimizer_d.lr": 0.7}, "`optimizer_d.lr` changes nothing here, got 0.7: `d` plays in no stage"),
        (FILMS, {"stages.both.players": ["d"], "optimizer_g.lr": 0.7}, "`optimizer_g.lr` changes nothing here, got 0.7: `g` plays in no"),
        (
            ("model=mlp",),
            {"stages": CONTENT_STAGE, "objective": {"_target_": "Hinge"}},
            "`objective` changes nothing here, .* no stage asks `d`",
        ),
        (
            FIXED,
            {"augment.strength.p": 0.0},
            "`augment` changes nothing here, .* augment.strength.p=0 is its probability; use augment=none",
        ),
        (ADA, {"augment.strength.max_p": 0}, "`augment` changes nothing here, .* augment.strength.max_p=0"),
        (
            HEADS,
            {"data.root": "a.csv", "data.beside.source.modality.te_ms": 70},
            "`data.beside.source.modality.te_ms` changes nothing here, got 70: data.root names files",
        ),
        (CONTENT, {"clip_d": 1.0}, "`clip_d` changes nothing here, got 1.0: `d` plays in no stage; .* other stages"),
        (CONTENT, {"d_per_g": 2}, "`d_per_g` changes nothing here, got 2: `d` and `g` play together in no stage"),
        (CONTENT, {"schedule_d": RAMP | {"images": None}}, "`schedule_d` changes nothing"),
        (FILMS, {"stages.both.players": ["d"], "clip_g": 1.0}, "`clip_g` changes nothing here, got 1.0: `g` plays in no stage"),
        (FILMS, {"stages.both.images": 500}, "`stages.both.images` changes nothing here, got 500: the last stage goes on .* total_images"),
        (THREE, {"stages.g_only.images": None}, "`stages.both` is never played: `stages.g_only`, before it, has no length; set stages"),
        (FILMS, {"data.root": "films", "data.cohort.patients": 60}, "`data.cohort.patients` .* got 60: data.root names files"),
        (HEADS, {"data.root": "a.csv", "data.modality.tr_ms": 700}, "`data.modality.tr_ms` changes nothing here, .* use data.root=null"),
        (
            DOMAINS,
            {"data.domains.t1.root": "t1", "data.domains.t1.cohort.seed": 3},
            "`data.domains.t1.cohort.seed` .* data.domains.t1.root",
        ),
        (
            FILMS,
            {"data.files": "T1w"},
            "`data.files` changes nothing here, got T1w: data.root=null is the embedded cohort, .* set data.root",
        ),
        (FILMS, {"data.patient_pattern": "a+"}, "`data.patient_pattern` changes nothing"),
        (FILMS, {"data.duplicates": "drop"}, "`data.duplicates` changes nothing"),
        (SLICES, {"data.modality.series": "T1"}, "`data.modality.series` changes nothing"),
        (FILMS, {"data.modality.voi": True}, "`data.modality.voi` changes nothing"),
        (VOLUMES, {"data.slices.step": 3}, "`data.slices.step` changes nothing here, got 3: slices are images of image.spatial_dims=2"),
        (VOLUMES, {"data.patches": 8, "data.crop": True}, "`data.crop` changes nothing"),
        (SLICES, {"data.spacing_mm": 2, "data.crop": True}, "`data.crop` changes nothing"),
        (FILMS, {"data.root": "a", "data.split": "folders", "data.fractions": [0.5, 0.3, 0.2]}, "`data.fractions` .* data.split=folders"),
        (DOMAINS, {"data.domains.t2.batch_size": 4}, "`data.domains.t2.batch_size` changes nothing here, got 4: .* use data.batch_size"),
        (DOMAINS, {"data.domains.t2.workers": 1}, "`data.domains.t2.workers` changes nothing"),
    ],
)
def test_what_another_setting_switches_off_is_refused(base, changes, told) -> None:
    with pytest.raises(ValueError, match=told):
        check(base, changes)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (R3GAN, {"penalty": default_option("penalty")}),  # the model chose the schedule
        (("model=mlp",), {"penalty": {"_target_": "medgan_pl.models.losses.penalties.R1"}, "schedule_penalty": RAMP | {"share": 0.5}}),
        (FILMS, {"d_per_g": "auto", "d_auto.accuracy": 0.9}),
        (FILMS, {"schedule_g": RAMP | {"images": None}}),
        (FILMS, {"guard.rollbacks": 0}),
        (STYLES, {"game.path_weight": 0.0}),
        (STYLES, {"game.path_every": 8}),
        (NAMED, {}),
        (NAMED, {"game.classes": 2, "game.fake_weight": 1.0}),
        (CONTENT, {}),
        (CONTENT, {"clip_g": 1.0}),
        (THREE, {"d_per_g": 2, "clip_d": 1.0}),
        (FILMS, {"data.root": "films"}),
        (FILMS, {"data.root": "films", "data.cohort.patients": 2000, "data.files": "T1w"}),
        (CONTENT, {"data.root": "slices"}),  # the experiment's own shape of the cohort
        (HEADS, {"data.root": "pairs.csv"}),  # the experiment's echo times
        (DOMAINS, {"data.domains.t2.root": "t2"}),
        (VOLUMES, {"data.crop": True}),
        (SLICES, {"data.slices.step": 3}),
        (("experiment=denoise_ct", "image.spatial_dims=3"), {}),
    ],
)
def test_what_is_read_and_what_nobody_chose_stay(base, changes) -> None:
    check(base, changes)


def test_an_experiment_that_sets_the_cohort_and_the_files_is_as_typed(monkeypatch) -> None:
    own = {"mine": {"data": {"root": "films", "cohort": {"seed": 7}}}}
    monkeypatch.setattr(inert, "files", lambda folder, found=inert.files: own if folder == "experiment" else found(folder))
    with pytest.raises(ValueError, match=r"`data.cohort.seed` changes nothing here, got 7"):
        check(FILMS, {"data.root": "films", "data.cohort.seed": 7})


def test_what_a_model_chooses_is_known_by_its_generator() -> None:
    assert generator_of("sagan") == generator_of("resnet_gan")
    assert {"penalty", "schedule_penalty", "beta2"} <= chosen_with(generator_of("r3gan"))
    assert chosen_with(generator_of("mlp")) == frozenset()
