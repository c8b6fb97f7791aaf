"""What no part of a run reads is refused by name before data are prepared."""

import pytest
from games_of_conf import GAMES
from hydra.utils import get_class
from omegaconf import OmegaConf
from shared import composed

from medgan_pl.train.unread import check_read, references


def check(*overrides: str) -> None:
    config = composed(*overrides)
    check_read(*(OmegaConf.to_container(config, resolve=resolve) for resolve in (False, True)))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("extra=l1",), "nothing reads `extras` here: Synthesis"),
        (("model=unet_gan", "degrade@data.degrade=dehaze", "noise=uniform"), "nothing reads `noise` here: Translation"),
        (("data=ct", "image.spatial_dims=3", "data.slices.axis=coronal"), "`data.slices.axis` must be left out in 3-D, got coronal"),
        (("degrade@data.degrade=dehaze",), "`data.degrade` would not be seen: it gives the batch a `source`, and Synthesis reads"),
        (("beside@data.beside.mask=film_masks",), "`data.beside.mask` would not be seen: it gives the batch a `mask`"),
        (("beside@data.beside.source=film",), "use beside@data.beside.source=none"),
        (("experiment=unpaired_ct_mr", "degrade@data.domains.ct.degrade=noise"), "`data.domains.ct.degrade` would not be seen"),
        (("+epochs=3",), "there is no setting `epochs`"),
        (("+lr=0.1",), "there is no setting `lr`"),
        (("++foo.bar=1",), "there is no setting `foo.bar`"),
        (("+guard.patients=1",), "there is no setting `guard.patients`, so nothing would read it; leave it out. did you mean"),
        (("+data.sizes=64",), "there is no setting `data.sizes`"),
        (("+device=cpu",), "there is no setting `device`"),
        (("+model.depth=3",), "nothing reads `model.depth` here"),
    ],
)
def test_what_nothing_reads_is_refused(overrides, told) -> None:
    with pytest.raises(ValueError, match="(?i)" + told.replace(".", r"\.")):
        check(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ("+optimizer_g.weight_decay=0.1", "+logger.wandb.tags=[a]", "+trainer.benchmark=true", "+callbacks.samples.more=1"),
        ("model=unet_gan", "beside@data.beside.source=film", "extra=[l1,structure]"),
        ("experiment=star_mr", "model.domains=4", "+data.domains.pd.root=pd"),
    ],
)
def test_a_real_addition_stays(overrides) -> None:
    check(*overrides)


@pytest.mark.parametrize("game", GAMES)
def test_a_game_reads_what_suits_it_and_declares_the_settings_of_its_file(game) -> None:
    check(*GAMES[game])
    config = OmegaConf.to_container(composed(*GAMES[game]), resolve=False)["game"]
    named = {key for key in references(config) if not key.startswith(("data.", "image."))}  # what every game may know of its images
    declared = get_class(config["_target_"])
    assert named == declared.settings
    assert {*declared.needs, *(key for keys in declared.needs.values() for key in keys)} <= {*config}


def test_the_keys_that_an_interpolation_names() -> None:
    node = {"a": "${noise}", "b": ["x-${oc.select:model.slabs,8}", 3], "c": {"d": "${data.size}"}}
    assert set(references(node)) == {"noise", "model.slabs", "data.size"}
