"""Weights for sharing: the same images to the bit, nothing of the machine in the file, and read with the care of a checkpoint."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import picture
from safetensors import safe_open
from safetensors.torch import save_file
from test_privacy import contents, told
from torch import Tensor

import medgan_pl
from medgan_pl.core.safe_load import fingerprint
from medgan_pl.core.settings import for_weights
from medgan_pl.export.weights import export
from medgan_pl.models.draw import fixed_batch
from medgan_pl.models.state import FORMAT


@pytest.fixture
def best(finished: Path) -> Path:
    return finished / "checkpoints" / "best.ckpt"


@pytest.fixture
def sealed(best: Path) -> bytes:
    """The content of x.safetensors, the shared weights of that run."""
    export(best, Path("x.safetensors"))
    return Path("x.safetensors").read_bytes()


def drawn(module: Any) -> Tensor:
    return module.generate(fixed_batch(module, torch.zeros(5, dtype=torch.long), seed=3))


@pytest.mark.parametrize("whole", [False, True])
def test_the_same_images_to_the_bit(best: Path, whole: bool) -> None:
    export(best, Path("folder/x.safetensors"), whole=whole)
    of_checkpoint, of_weights = medgan_pl.load(best), medgan_pl.load("folder/x.safetensors")
    assert torch.equal(drawn(of_checkpoint), drawn(of_weights))
    for name in ("classes", "inverse", "images", "training"):
        assert getattr(of_checkpoint, name) == getattr(of_weights, name)
    assert [path.name for path in Path("folder").iterdir()] == ["x.safetensors"]
    players = {name: weight for name, weight in of_checkpoint.state_dict().items() if not name.startswith("ema.")}
    found = of_weights.state_dict()
    assert all(torch.equal(weight, found[name]) for name, weight in players.items() if whole)
    if not whole:  # the average stands for the generator, and nothing for the discriminator
        assert not list(of_weights.networks["d"].parameters())
        pairs = zip(of_weights.networks["g"].parameters(), of_weights.ema.network.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_the_command_and_its_samples(best: Path, here) -> None:
    code, said = here("export", f"checkpoint={best}", "output=x.safetensors")
    assert code == 0, said
    assert "the EMA generator of" in said
    for name, source in (("a", best), ("b", "x.safetensors")):
        code, said = here("sample", f"checkpoint={source}", "n=3", f"output={name}", "device=cpu", "seed=5")
        assert code == 0, said
    for i in range(3):
        assert picture(Path(f"a/{i:06d}.png")).tobytes() == picture(Path(f"b/{i:06d}.png")).tobytes()
    assert json.loads(Path("b/000000.png.json").read_text())


def test_what_is_told(best: Path, finished: Path) -> None:
    from medgan_pl.data.export import sha256

    export(best, Path("x.safetensors"))
    with safe_open("x.safetensors", "pt") as file:
        assert all(name.startswith("ema.network.") for name in file.keys())  # noqa: SIM118
        state = json.loads(file.metadata()["medgan_pl"])
    assert state.keys() == {"format", "config", "classes", "covariates", "inverse", "images", "inverses", "checkpoint_sha256"}
    assert (state["format"], state["images"], state["checkpoint_sha256"]) == (FORMAT, 64, sha256(best))
    assert state["config"]["module"]["metrics"] == {}
    place = [str(finished), str(finished.parent.parent), str(Path.home()), "cache"]
    assert told([best.read_bytes()], place[:1]) == {place[0]}  # the checkpoint tells it
    assert told(contents(Path()), place) == set()


def test_only_what_may_go_out_goes_out(settings) -> None:
    config = settings("data.root=/home/mueller/films", "data.files=mueller", "data.patient_pattern=mueller", "+note=mueller")
    assert "mueller" in json.dumps(config)
    assert "mueller" not in json.dumps(for_weights(config))


def test_mistakes(best: Path, here) -> None:
    for arguments, message in (
        ((), "`checkpoint` must be given"),
        (("checkpoint=nowhere.ckpt",), "`checkpoint` must be a checkpoint file"),
        ((f"checkpoint={best}", "output=x.ckpt"), "`output` a .safetensors file"),
        (("checkpoint=x.safetensors", "output=y.safetensors"), "`checkpoint` must be a checkpoint and"),
    ):
        code, said = here("export", *arguments)
        assert (code, list(Path().glob("*.safetensors"))) == (1, []), message
        assert message in said
        assert "Traceback" not in said


def rewritten(change: Callable[[dict[str, Any], dict[str, Tensor]], None], **sealing: str) -> None:
    """x.safetensors with its settings and weights changed, and a checksum that fits unless another is given."""
    with safe_open("x.safetensors", "pt") as file:
        told, weights = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    state = json.loads(told["medgan_pl"])
    change(state, weights)
    told["medgan_pl"] = json.dumps(state)
    save_file(weights, "x.safetensors", told | {"sha256": fingerprint(told["medgan_pl"], weights)} | sealing)


def header(size: int) -> Callable[[bytes], bytes]:
    return lambda data: size.to_bytes(8, "little") + data[8:]


def test_a_file_that_is_not_whole_is_refused(sealed: bytes) -> None:
    for name, harm, message in (
        ("a byte less", lambda data: data[:-1], "it is not: "),
        ("three bytes", lambda data: data[:3], "it is not: "),
        ("a bit of a weight", lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:], "its checksum is not that"),
        ("a word of the settings", lambda data: data.replace(b"consolidation", b"concentration"), "its checksum is not that"),
        ("a header without end", header(2**63), "its header must have at most"),
        ("a large header", header(5 * 2**20), "its header must have at most"),
        ("a small header", header(10), "it is not: "),
        ("a zip", lambda data: b"PK\3\4" + data, "it is not: "),
        ("nothing", lambda data: b"", "it is not: "),
    ):
        Path("x.safetensors").write_bytes(harm(sealed))
        with pytest.raises(ValueError, match=f"must be whole weights written by medgan_pl.export; .*{message}"):
            print(name, medgan_pl.load("x.safetensors"))


FOREIGN = {"_target_": "os.getcwd"}


def put(**values: Any) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    return lambda state, weights: state.update(values)


def network(state: dict[str, Any]) -> dict[str, Any]:
    return state["config"]["module"]["players"]["g"]["network"]


def test_weights_made_to_harm_are_refused(sealed: bytes) -> None:
    rewritten(lambda state, weights: None)
    medgan_pl.load("x.safetensors")  # rewriting alone does no harm
    older = "it was written by an older version of medgan_pl"
    for name, change, message in (
        ("newer", put(format=3), r"it was written by another version of medgan_pl \(format 3, this one reads 2\); use that version"),
        ("older", put(format=1), older),
        ("oldest", lambda state, weights: state.pop("format"), older),
        ("fewer than none", put(images=-1), "`images` must be how many"),
        ("no inverse", put(inverse={}), "it lacks"),
        ("no settings", put(config={}), "it lacks"),
        ("deep", put(classes=json.loads("[" * 40 + "]" * 40)), "at most 32 levels deep"),
        ("vast", lambda state, weights: network(state).update(width=10**9), "'width' must be at most"),
        ("other width", lambda state, weights: network(state).update(width=64), "do not fit the settings"),
        (
            "code",
            lambda state, weights: state["config"]["module"].update(ema={"_target_": "os.getcwd"}),
            "`_target_` must be the full name",
        ),
        ("no weight", lambda state, weights: weights.clear(), "do not fit the settings"),
        ("a weight more", lambda state, weights: weights.update(more=torch.zeros(1)), "do not fit the settings"),
    ):
        Path("x.safetensors").write_bytes(sealed)
        rewritten(change)
        with pytest.raises(ValueError, match=message):
            print(name, medgan_pl.load("x.safetensors"))


def test_another_seal_is_refused(sealed: bytes) -> None:
    for seal in ({"sha256": ""}, {"medgan_pl": "{}"}, {"medgan_pl": "[" * 100_000}):
        Path("x.safetensors").write_bytes(sealed)
        rewritten(lambda state, weights: None, **seal)
        with pytest.raises(ValueError, match="its checksum is not that"):
            medgan_pl.load("x.safetensors")


def test_settings_nested_without_end_are_refused(sealed: bytes) -> None:
    with safe_open("x.safetensors", "pt") as file:
        weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    said = "[" * 1_000_000
    save_file(weights, "x.safetensors", {"medgan_pl": said, "sha256": fingerprint(said, weights)})
    with pytest.raises(ValueError, match="recursion"):
        medgan_pl.load("x.safetensors")
