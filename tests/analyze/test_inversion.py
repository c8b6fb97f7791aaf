"""A style-based generator from the command line: truncation, projection, shared weights."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import TINY, command, picture
from configured import configured
from hydra.errors import InstantiationException
from PIL import Image
from safetensors.torch import load_file

import medgan_pl
from medgan_pl.analyze.inversion import read
from medgan_pl.analyze.run import analyze
from medgan_pl.export.weights import export
from medgan_pl.models.draw import fixed_batch
from medgan_pl.sample.draw import sample


@pytest.fixture(scope="session")
def style(made_once) -> Path:
    """The checkpoint of a tiny run of model=stylegan2. After one layer of mapping an untrained w still differs from image to image; and at
    full range an image that was drawn is read as it was, not brought to another contrast."""
    options = ("model.generator.mapping_layers=1", "intensity@data.intensity=full_range", "logger=csv", "hydra.run.dir=here")
    length = ("data.cohort.patients=30", "total_images=32", "log_every=8", "validate_every=32", "callbacks.samples=null")
    place = made_once("style", lambda: command("train", "model=stylegan2", *TINY, *options, *length))
    return place / "here" / "checkpoints" / "last.ckpt"


def drawn(folder: str, n: int) -> np.ndarray:
    return np.stack([np.asarray(picture(Path(folder, f"{i:06d}.png"))).astype(float) for i in range(n)])


@pytest.mark.slow
def test_truncation_draws_nearer_to_the_average_and_says_so(style: Path, here) -> None:
    spreads = []
    for value in ("0", "0.5", "1", "null"):
        code, said = here("sample", f"checkpoint={style}", "n=6", f"truncation={value}", f"output=t_{value}", "device=cpu")
        assert code == 0, said
        spreads.append(drawn(f"t_{value}", 6).std(0).mean())
    assert spreads[0] < spreads[1] < spreads[2]
    assert np.abs(drawn("t_1", 6) - drawn("t_null", 6)).max() <= 1
    assert json.loads(Path("t_0.5/000000.png.json").read_text())["config"]["truncation"] == 0.5
    assert "truncation" not in json.loads(Path("t_null/000000.png.json").read_text())["config"]


@pytest.mark.slow  # .ci/run runs it
def test_the_penalty_and_the_mean_path_length_are_of_the_run(style: Path) -> None:
    state = torch.load(style, weights_only=True)["state_dict"]
    assert state["game.path_length"] > 0
    assert state["networks.g.w_average"].abs().sum() > 0
    header = (style.parent.parent / "metrics.csv").read_text().splitlines()[0]
    assert "train/g/path" in header


def test_shared_weights_draw_the_same_images_without_what_the_game_keeps(style: Path) -> None:
    export(style, Path("x.safetensors"))
    one, other = medgan_pl.load(style), medgan_pl.load("x.safetensors")
    images = [module.generate(fixed_batch(module, torch.zeros(3, dtype=torch.long), 5)) for module in (one, other)]
    assert torch.equal(*images)


def test_an_own_image_is_found(style: Path, here) -> None:
    here("sample", f"checkpoint={style}", "n=3", "output=films", "device=cpu")
    Path("films/grid.png").unlink()
    here("sample", f"checkpoint={style}", "n=1", "truncation=0", "output=average", "device=cpu")
    where = (f"checkpoint={style}", "analysis.steps=60", "device=cpu")
    code, said = here("analyze", *where, "input=films", "output=a", "batch_size=2")
    assert code == 0, said
    assert "3 inversions" in said
    told = json.loads(Path("a/distances.json").read_text())["images"]
    films, average = drawn("films", 3), drawn("average", 1)
    for i, row in enumerate(told):
        assert row["image"] == f"{i:06d}"
        assert row["rmse"] < 0.7 * np.sqrt(np.square((films[i] - average[0]) / 127.5).mean())
        assert set(row["left"]) == {"pixels", "random"}
        assert load_file(f"a/{i:06d}.safetensors")["w"].shape == (8,)
    picture_of_first = np.asarray(picture(Path("a/000000.png")).convert("L"))
    assert picture_of_first.shape == (18, 52)  # three of 16 pixels and their frames
    assert np.abs(picture_of_first[1:17, 1:17].astype(float) - films[0]).max() <= 1
    code, said = here("analyze", *where, "input=films/000001.png", "output=b", "analysis.each_layer=true", "analysis.steps=3")
    assert code == 0, said
    assert load_file("b/000000.safetensors")["w"].shape == (6, 8)
    assert "film" not in Path("b/distances.json").read_text()


def test_a_single_film_is_read_and_no_other_nor_its_folder_s_rules(style: Path) -> None:
    module = medgan_pl.load(style)
    random = np.random.default_rng(0)
    names = ("a/film.png", "a/old/film.png", "b/film, 1.png", "b/train/x.png", "c/film_mask.png", "c/film.png", ".h/film.png")
    films = {name: random.integers(0, 255, (16, 16), np.uint8) for name in names}
    for name, pixels in films.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(name)
    for name, pixels in films.items():
        images, called = read(module, Path(name), 16)
        assert called == [Path(name).name]
        np.testing.assert_allclose(images[0, 0], pixels / 127.5 - 1, atol=0.01)


def test_the_manual(here) -> None:
    code, said = here("analyze", "--help")
    assert code == 0
    assert "each_layer" in said


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (analyze, "input=x.png", "`checkpoint` must be given"),
        (analyze, "checkpoint={style}", "`input` must be given"),
        (analyze, "checkpoint={style} input=. analysis.steps=0", "`steps` must be a whole number"),
        (analyze, "checkpoint={style} input=. analysis.each_layer=maybe", "`each_layer` must be true or false, got maybe"),
        (analyze, "checkpoint={style} input=. analysis.rate=fast", "`rate` must be above 0 and `features` at least 0, got fast"),
        (analyze, "checkpoint={other} input=.", "an inversion needs a generator with styles, model=stylegan2; ResNetGenerator"),
        (sample, "checkpoint={other} truncation=0.7", "truncation needs a generator with styles, model=stylegan2; ResNetG"),
        (sample, "checkpoint={style} truncation=2", "`truncation` must be null or a number in 0 to 1, got 2"),
    ],
)
def test_mistakes(style: Path, written: bytes, command, arguments, message) -> None:
    Path("other.ckpt").write_bytes(written)
    values = arguments.format(style=style, other="other.ckpt").split()
    with pytest.raises((ValueError, InstantiationException), match=re.escape(message)):
        command(configured(command.__name__, *values, "device=cpu"))


def test_the_old_name_says_the_new_one(style: Path) -> None:
    said = command("project", f"checkpoint={style}", "image=nowhere.png", "steps=3", "device=cpu", code=1).stderr
    assert "analysis=inversion" in said
    assert "`input` must be a file or a folder of images, got nowhere.png" in said
    assert "Traceback" not in said
