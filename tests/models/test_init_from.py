"""Fine-tuning: which layers a new run takes from another's file, what it says of the others, and that it takes them once."""

import copy
import io
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from test_faults import inject, play, spoil  # noqa: F401 - fixtures
from torch import Tensor
from written_checkpoint import INVERSE, Touches

import medgan_pl
from medgan_pl.core.console import configuration_folder
from medgan_pl.export.weights import export
from medgan_pl.models.build import build_module
from medgan_pl.models.module import AdversarialModule
from medgan_pl.models.state import FORMAT
from medgan_pl.models.transfer import begin_from, counted_back, fitting, layer_of, transfer

SMALL = ("data.size=16", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4")
NETWORKS = {"g": "networks.g", "d": "networks.d", "ema": "ema.network"}


@cache
def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=["run_dir=run", *SMALL, *overrides]), resolve=True)


def built(*overrides: str) -> AdversarialModule:
    return build_module(copy.deepcopy(composed(*overrides)))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, but for what only a run that goes on needs."""
    path = tmp_path_factory.mktemp("source") / "best.ckpt"
    state = {"format": FORMAT, "config": composed(), "classes": ["normal", "nodule"], "images": 64, "inverse": INVERSE}
    torch.save({"state_dict": other(built()), "medgan_pl": state}, path)
    return path


def other(module: torch.nn.Module) -> dict[str, Tensor]:
    """The state of a module that has learnt, the average apart from the generator."""
    state = module.state_dict()
    generator = torch.Generator().manual_seed(7)
    return {name: torch.rand(w.shape, generator=generator) if w.is_floating_point() else w + 3 for name, w in state.items()}


def weights_of(path: Path) -> dict[str, Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def equal(a: dict[str, Tensor], b: dict[str, Tensor], prefix: str) -> list[bool]:
    return [torch.equal(weight, b[name]) for name, weight in a.items() if name.startswith(f"{prefix}.")]


def test_of_one_architecture_each_network_takes_all_of_its_own() -> None:
    module = built()
    weights = other(module)
    lines = transfer(weights, module)
    for prefix in NETWORKS.values():
        assert all(equal(weights, module.state_dict(), prefix))
    counts = [line.split(": ")[1].split() for line in lines]
    assert [line.split(":")[0] for line in lines] == list(NETWORKS)
    assert all(taken == of and rest == ["layers", "taken"] for taken, _, of, *rest in counts)
    assert not any(equal(weights, built().state_dict(), "networks.g.start"))  # it was another before


@pytest.mark.parametrize(("model", "player_layers"), [("resnet_gan", "blocks"), ("dcgan", "body")])
@pytest.mark.parametrize("sizes", [(16, 32), (32, 16)])
def test_of_another_size_what_fits_is_taken_and_the_rest_is_named_and_begins_anew(model, player_layers, sizes) -> None:
    """In the generator counted from the image back: all but what is next to the noise."""
    there, here = (f"data.size={size}" for size in sizes)
    weights, fresh = other(built(f"model={model}", there)), built(f"model={model}", here).state_dict()
    module = built(f"model={model}", here)
    lines, found = transfer(weights, module), module.state_dict()
    for player, line in zip(NETWORKS.values(), lines, strict=True):
        counts, named = line.split("; not taken: ")
        anew = set(re.split(r"[,; ]+", re.sub(r" \((shape .*? there|is not in the file)\)", "", named)))
        layers = {layer_of(name).removeprefix(f"{player}.") for name in found if name.startswith(f"{player}.")}
        assert anew < layers
        assert f": {len(layers - anew)} of {len(layers)} layers taken" in counts
        for layer in layers:
            names = [name for name in found if layer_of(name) == f"{player}.{layer}"]
            kept = [torch.equal(found[name], fresh[name]) for name in names]
            assert all(kept) if layer in anew else not any(kept), layer
        if player == "networks.d":
            assert all(
                torch.equal(weights[name], found[name])
                for layer in layers - anew
                for name in found
                if layer_of(name) == f"{player}.{layer}"
            )
        else:
            assert counts.endswith(", counted from the image back")
    assert "start.0 (shape (" in lines[0]
    last = max(name for name in found if name.startswith(f"networks.g.{player_layers}."))
    assert any(weight.shape == found[last].shape and torch.equal(weight, found[last]) for weight in weights.values())


def test_lists_are_counted_from_their_ends() -> None:
    wanted = dict.fromkeys(["a.0.x", "a.1.x", "a.2.x.3.y", "b.x"])
    found = {"a.0.x": 0, "a.1.x.3.y": 1, "b.x": 2, "c.0.x": 3}
    assert counted_back(wanted, found) == {"a.1.x": 0, "a.2.x.3.y": 1, "b.x": 2, "c.0.x": 3}
    assert counted_back(dict.fromkeys(["a.0.x"]), {"a.0.x": 0, "a.1.x": 1}) == {"a.-1.x": 0, "a.0.x": 1}


def test_of_other_classes_only_what_knows_them_begins_anew() -> None:
    weights = other(built("model.classes=2"))
    lines = transfer(weights, built("model.classes=3"))
    assert "not taken: condition.embedding (shape (3, 8) here, (2, 8) there)" in lines[0]
    lines = transfer(other(built()), built("model.classes=3"))
    assert "condition.embedding (is not in the file)" in lines[0]
    assert "start.0 (shape " in lines[0]


def test_a_layer_is_taken_whole_or_not_at_all() -> None:
    wanted = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2), "b.weight": torch.zeros(4), "c.n": torch.zeros(()).long()}
    found = {"a.weight": torch.ones(2, 4), "a.bias": torch.ones(2), "b.weight": torch.ones(4), "c.n": torch.ones(())}
    taken, left = fitting(wanted, found)
    assert list(taken) == ["b"]
    assert left == {"a": "shape (2, 3) here, (2, 4) there", "c": "of another kind of number"}


def test_spectral_norm_is_its_layers() -> None:
    normed = ("model.discriminator.spectral_norm=true", "model.discriminator.batch_norm=false")
    module = built(*normed)
    weights = other(module)
    transfer(weights, module)
    assert all(equal(weights, module.state_dict(), "networks.d"))
    plain = ("model.discriminator.batch_norm=false",)
    lines = transfer(other(built(*plain)), built(*normed))
    assert lines[1].startswith("d: 0 of ")
    assert "blocks.0.conv1" in lines[1]


@pytest.mark.parametrize("model", ["mlp", "dcgan"])
def test_where_nothing_fits_it_is_an_error(model) -> None:
    weights = other(built(f"model={model}"))
    with pytest.raises(ValueError, match=r"no layer of the generator .* was it of another model or width.* start\.0"):
        transfer(weights, built())


def test_weights_that_are_not_finite_are_refused() -> None:
    module = built()
    weights = other(module)
    weights["networks.g.to_image.bias"][0] = torch.nan
    with pytest.raises(ValueError, match=r"must be finite; g\.to_image\.bias holds NaN"):
        transfer(weights, module)


def test_shared_weights_without_the_players_give_the_average_to_both_generators(source: Path) -> None:
    export(source, Path("average.safetensors"))
    export(source, Path("whole.safetensors"), whole=True)
    stored = weights_of(source)
    averaged = {name.removeprefix("ema.network."): weight for name, weight in stored.items() if name.startswith("ema.network.")}
    for file, own in (
        ("average", averaged),
        ("whole", {n.removeprefix("networks.g."): w for n, w in stored.items() if "networks.g." in n}),
    ):
        config = composed() | {"init_from": f"{file}.safetensors"}
        module, fresh = build_module(copy.deepcopy(config)), build_module(copy.deepcopy(config))
        lines = begin_from(config, module, ())
        assert all(torch.equal(weight, own[name]) for name, weight in module.networks["g"].state_dict().items())
        assert all(torch.equal(weight, averaged[name]) for name, weight in module.ema.network.state_dict().items())
        anew = all(equal(fresh.state_dict(), module.state_dict(), "networks.d"))
        assert anew is (file == "average")
        assert any("d: begins anew; the file does not have it" in line for line in lines) is anew


def test_a_file_that_is_none_or_has_changed_is_refused(source: Path) -> None:
    config = composed() | {"init_from": "nowhere.ckpt"}
    with pytest.raises(FileNotFoundError, match=r"`init_from` must be a checkpoint.*got nowhere\.ckpt"):
        begin_from(config, build_module(copy.deepcopy(config)), ())
    config["init_from"] = str(source)
    begin_from(config, build_module(copy.deepcopy(config)), ())
    torch.save(torch.load(config["init_from"], weights_only=True) | {"more": 1}, "x.ckpt")
    with pytest.raises(ValueError, match=r"must be the file it was when the run began; x\.ckpt has changed"):
        begin_from(config | {"init_from": "x.ckpt"}, build_module(copy.deepcopy(config)), ())


@pytest.mark.parametrize("harm", ["code", "cut", "text"])
def test_a_hostile_file_is_refused_and_runs_nothing(source: Path, harm) -> None:
    whole = source.read_bytes()
    if harm == "code":
        file = io.BytesIO()
        torch.save(torch.load(io.BytesIO(whole), weights_only=True) | {"extra": Touches()}, file)
        whole = file.getvalue()
    Path("evil.ckpt").write_bytes({"code": whole, "cut": whole[: len(whole) // 2], "text": b"not a checkpoint"}[harm])
    config = composed() | {"init_from": "evil.ckpt"}
    with pytest.raises(ValueError, match=r"evil\.ckpt must be a whole checkpoint"):
        begin_from(config, build_module(copy.deepcopy(config)), ())
    assert not Path("ran").exists()


def test_classes_of_other_names_are_told_of(source: Path) -> None:
    config = composed("model.classes=2") | {"init_from": str(source)}
    lines = begin_from(config, build_module(copy.deepcopy(config)), ("well", "sick"))
    assert (
        lines[-1]
        == "its model was conditioned on nothing, this one on 2 classes; the layers that take in the condition, or name it, begin anew"
    )
    content = torch.load(source, weights_only=True)
    content["medgan_pl"]["config"] = composed("model.classes=2")
    content["state_dict"] = other(built("model.classes=2"))
    torch.save(content, "two.ckpt")
    config = composed("model.classes=2") | {"init_from": "two.ckpt"}
    lines = begin_from(config, build_module(copy.deepcopy(config)), ("well", "sick"))
    assert lines[-1] == "its classes were 'normal', 'nodule' and are well, sick here; they are taken by number"


@pytest.mark.parametrize(
    ("model", "covariates", "layers"),
    [
        ("resnet_gan", "[age]", ("g.condition.embedding", "d.verdict.projection")),
        pytest.param("cgan", "[age]", ("g.condition.embedding", "d.map.0"), marks=pytest.mark.slow),
        pytest.param("stylegan2", "[age]", ("g.mapping.embedding", "d.verdict.projection"), marks=pytest.mark.slow),
        ("acgan", "[age,sex]", ("d.verdict.linear",)),
    ],
)
def test_what_takes_in_another_condition_of_the_same_shape_begins_anew(model, covariates, layers) -> None:
    """Two classes are as many numbers as one covariate, which may be unknown; and as many answers as two covariates."""
    weights, module = other(built(f"model={model}", "model.classes=2")), built(f"model={model}", f"model.covariates={covariates}")
    fresh = copy.deepcopy(module.state_dict())
    lines = transfer(weights, module, same_condition=False)
    for layer in layers:
        own = [name for name in fresh if layer_of(name) == f"networks.{layer}"]
        assert own
        assert all(torch.equal(module.state_dict()[name], fresh[name]) for name in own)
        player, _, inner = layer.partition(".")
        assert f"{inner} (its condition is another one here)" in lines[list(NETWORKS).index(player)]
    transfer(weights, module)
    assert all(torch.equal(module.state_dict()[f"networks.{layer}.weight"], weights[f"networks.{layer}.weight"]) for layer in layers)


def test_a_run_begins_with_anothers_weights_once(play, tmp_path: Path, caplog, monkeypatch) -> None:  # noqa: F811
    """The first look is at the weights taken; going on and loading need the file no more."""
    caplog.set_level("INFO")
    first = play("model=dcgan", name="first")
    first_last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    begun: list[Any] = []
    monkeypatch.setattr("medgan_pl.models.transfer.transfer", lambda *given, **how: begun.append(1) or transfer(*given, **how))
    same = play("model=dcgan", f"init_from={first_last}", name="same")
    assert same["val/fd_random"][1][0] == pytest.approx(first["val/fd_random"][1][-1], rel=1e-5)
    assert "from " in caplog.text
    assert " layers taken" in caplog.text
    state = torch.load(tmp_path / "same" / "checkpoints" / "last.ckpt", weights_only=True)["medgan_pl"]
    assert state["images"] == 96
    digest = state["config"]["init_from_sha256"]
    assert len(digest) == 64
    first_last.unlink()
    play("model=dcgan", f"init_from={first_last}", "total_images=128", "resume.force=true", name="same")
    assert len(begun) == 1
    assert "init_from is not read: the run resumes from" in caplog.text
    play("model=dcgan", "total_images=128", name="same")  # it has ended, and without the key it is the same run
    last = tmp_path / "same" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["medgan_pl"]["config"]["init_from_sha256"] == digest
    assert medgan_pl.load(last).images == 128


def test_the_way_back_to_the_beginning_is_the_way_back_to_the_weights_taken(play, inject, tmp_path: Path, monkeypatch) -> None:  # noqa: F811
    play(name="first")
    first_last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    begun: list[Any] = []
    monkeypatch.setattr(
        "medgan_pl.models.transfer.transfer", lambda *given, **how: begun.append(given[1].rollbacks) or transfer(*given, **how)
    )
    inject(lambda module, losses: spoil(losses) if module.rate == 1 and module.images >= 20 else None)
    table = play("guard.patience=2", f"init_from={first_last}")
    assert len(begun) == 2
    assert table["train/rollbacks"][1] == [1] * 6


@pytest.mark.slow
def test_training_begins_from_the_command_line(here, source: Path) -> None:
    """16² to 32² with classes, on other patients; then drawn from."""
    small = ("data.size=32", "data.cohort.patients=40", "data.batch_size=8", "model.width=4", "model.latent=8", "model.classes=4")
    small += ("metrics.random.extractor.width=4", "total_images=16", "log_every=8", "validate_every=16", "callbacks.samples.n=4")
    code, said = here("train", *small, "trainer=cpu", "logger=csv", f"init_from={source}", "hydra.run.dir=tuned")
    assert code == 0, said
    log = Path("tuned/train.log").read_text()
    assert ": g: 12 of 19 layers taken" in log
    assert "not taken: " in log
    assert "its model was conditioned on nothing, this one on 4 classes" in log
    code, said = here("sample", "checkpoint=tuned/checkpoints/best.ckpt", "n=2", "output=drawn")
    assert code == 0, said
    sidecar = next(Path("drawn").glob("*.json")).read_text()
    assert "init_from_sha256" in sidecar
    assert str(source.parent) not in sidecar
    code, said = here("train", *small, "trainer=cpu", "logger=csv", "init_from=nowhere.ckpt", "hydra.run.dir=none")
    assert code == 1
    assert "`init_from` must be a checkpoint" in said
    assert not Path("none/checkpoints").exists()
