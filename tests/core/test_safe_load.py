"""Files that travel: read without running them, held to their own size, built only from our own classes; and secrets kept out of all."""

import ast
import copy
import io
import pickle
import tomllib
import warnings
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import TINY
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from test_privacy import contents, told
from torch import nn

import medgan_pl
from medgan_pl.core.console import configuration_folder
from medgan_pl.core.safe_load import FORMAT, check_secrets, check_targets, read_checkpoint
from medgan_pl.models.build import build_module
from medgan_pl.models.load import at_most

PACKAGE = Path(medgan_pl.__file__).parent
SMALL = ("run_dir=run", "data.size=16", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4")
INVERSE = {"levels": [[0.0, 4095.0]], "unit": "grey levels", "modality": "CR", "spacing_mm": [1.0, 1.0], "directions": None}


@pytest.fixture(scope="module")
def written() -> bytes:
    """A whole checkpoint, but for what only a run that goes on needs."""
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", overrides=[*SMALL]), resolve=True)
    state = {"format": FORMAT, "config": config, "classes": ["normal"], "images": 64, "inverse": INVERSE}
    return saved({"state_dict": build_module(config).state_dict(), "medgan_pl": state})


def saved(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture
def whole(written: bytes) -> dict[str, Any]:
    Path("whole.ckpt").write_bytes(written)
    return copy.deepcopy(read_checkpoint("whole.ckpt"))


@pytest.fixture
def refused(whole: dict[str, Any]) -> Callable[..., None]:
    def refused(match: str) -> None:
        Path("evil.ckpt").write_bytes(saved(whole))
        with pytest.raises(ValueError, match=match) as caught:
            medgan_pl.load("evil.ckpt")
        assert len(str(caught.value)) < 2000

    return refused


# Code -------------------------------------------------------------------------------------------------------------------------------


class Touches:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


class Swells:
    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (10**12,)


def test_a_pickle_that_would_run_code_is_refused(whole) -> None:
    whole["extra"] = Touches()
    Path("evil.ckpt").write_bytes(saved(whole))
    torch.load("evil.ckpt", weights_only=False)
    assert Path("ran").exists()  # it would have run
    Path("ran").unlink()
    with pytest.raises(ValueError, match=r"it names .*, and a checkpoint holds nothing but tensors"):
        medgan_pl.load("evil.ckpt")
    assert not Path("ran").exists()


def test_what_torch_would_let_through_is_refused_before_it_is_read(whole, refused) -> None:
    whole["extra"] = Swells()
    refused(r"it names '(__builtin__|builtins) bytearray'")


def calls() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each call in the package: where, what, and its keywords that are written out."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                given = {k.arg: k.value.value if isinstance(k.value, ast.Constant) else ... for k in node.keywords if k.arg}
                yield f"{path.name}:{node.lineno}", ast.unparse(node.func), given


def test_nothing_in_the_package_unpickles() -> None:
    loads = [(where, given) for where, name, given in calls() if name == "torch.load"]
    goes_on = [(where, given) for where, name, given in calls() if "ckpt_path" in given or name.endswith("load_from_checkpoint")]
    assert loads
    assert goes_on
    assert [where for where, given in loads + goes_on if given.get("weights_only") is not True] == []
    unsafe = (
        "pickle.load",
        "pickle.loads",
        "pickle.Unpickler",
        "joblib.load",
        "yaml.load",
        "torch.jit.load",
        "torch.hub.load",
        "eval",
        "exec",
    )
    found = [(where.split(":")[0], name) for where, name, given in calls() if name in unsafe or given.get("allow_pickle") is True]
    # A TorchScript file is a program that the user names to `evaluate` or `train`; no checkpoint can (tests/metrics/test_pretrained.py).
    assert found == [("torchscript.py", "torch.jit.load")]


# The file ---------------------------------------------------------------------------------------------------------------------------


def flipped(data: bytes, where: float) -> bytes:
    place = int(len(data) * where)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def repacked(data: bytes, compression: int = zipfile.ZIP_STORED, extra: str = "") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        if extra:
            new.writestr(extra, b"\x80\x02N.")
    return file.getvalue()


def old_format(data: bytes) -> bytes:
    file = io.BytesIO()
    torch.save(torch.load(io.BytesIO(data), weights_only=True), file, _use_new_zipfile_serialization=False)
    return file.getvalue()


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (lambda data: flipped(data, 0.6), "Bad CRC-32"),
        (lambda data: flipped(data, 0.3), "Bad CRC-32"),
        (lambda data: data[:-1], "it is not: "),
        (lambda data: data[: len(data) // 2], "not a zip file"),
        (lambda data: b"", "not a zip file"),
        (lambda data: pickle.dumps({}), "not a zip file"),
        (old_format, "not a zip file"),
        (lambda data: repacked(data, zipfile.ZIP_DEFLATED), "must be stored, not compressed"),
        (lambda data: repacked(data, extra="archive/DATA.PKL"), "two of its parts have one name"),
        (lambda data: repacked(data, extra="other/data.pkl"), "it must have one data.pkl, got 2"),
        (lambda data: saved({"texts": "x" * 5_000_000}), "its data.pkl must have at most"),
        (lambda data: saved([1, 2]), "it is not: "),
        (lambda data: saved({"state_dict": {}}), "it lacks 'medgan_pl'"),
        (lambda data: saved({"state_dict": {}, "medgan_pl": {"format": FORMAT}}), "it lacks 'config'"),
        (lambda data: saved({"state_dict": {}, "medgan_pl": {"config": {}}}), "written by an older version of medgan_pl"),
        (lambda data: saved({"state_dict": [], "medgan_pl": {}}), "must be dicts"),
        (lambda data: saved({"state_dict": {"a": 1}, "medgan_pl": {}}), "must hold tensors alone"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(written: bytes, harm, match) -> None:
    assert "it is not: " not in match or harm(written) != written
    Path("harmed.ckpt").write_bytes(harm(written))
    with pytest.raises(ValueError, match=rf"harmed.ckpt must be a whole checkpoint written by medgan_pl.train; .*{match}"):
        read_checkpoint("harmed.ckpt")


def test_torch_itself_takes_a_flipped_byte(written: bytes) -> None:
    Path("harmed.ckpt").write_bytes(flipped(written, 0.5))
    torch.load("harmed.ckpt", weights_only=True)  # which is why the checksums are ours to hold


def test_a_part_that_claims_more_than_the_file_is_refused(written: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        entry = max(archive.infolist(), key=lambda member: member.file_size)
        size = entry.file_size.to_bytes(4, "little")
    directory = written.rindex(entry.filename.encode()) - 46  # its entry in the list of parts, at the end of a zip
    harmed = bytearray(written)
    assert harmed[directory + 24 : directory + 28] == size
    harmed[directory + 20 : directory + 28] = (2**31).to_bytes(4, "little") * 2
    Path("harmed.ckpt").write_bytes(harmed)
    with pytest.raises(ValueError, match="its parts say they are larger than the file"):
        read_checkpoint("harmed.ckpt")


def nested(depth: int) -> Any:
    node: Any = 1
    for _ in range(depth):
        node = [node, node]  # the same twice: short in the file, 2 ** depth values to walk
    return node


@pytest.mark.parametrize(
    ("put", "match"),
    [
        (lambda: torch.zeros(1).expand(10**6, 10**6), "claims more than the file holds"),
        (lambda: torch.zeros(4).as_strided((4, 10**12), (1, 0)), "claims more than the file holds"),
        (lambda: torch.empty(10**12, device="meta"), "_rebuild_meta_tensor_no_storage"),
        (lambda: torch.sparse_coo_tensor([[0]], [1.0], (10**12,)), "_rebuild_sparse_tensor"),
        (lambda: nn.Parameter(torch.zeros(1)), "_rebuild_parameter"),
        (lambda: torch.zeros(1, dtype=torch.complex64), "ComplexFloatStorage"),
        (lambda: nested(40), "at most 32 levels deep"),
        (lambda: nested(25), "at most 200000 values"),
        (lambda: {1, 2}, "it names"),
        (lambda: 10**5000, "its data.pkl does more than hold"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
def test_what_claims_more_than_it_is_or_is_not_plain_is_refused(whole, refused, put, match) -> None:
    whole["optimizer_states"] = [{"state": {0: {"exp_avg": put()}}}]
    refused(match)


@pytest.mark.parametrize(
    ("where", "value", "match"),
    [
        ("images", -1, "`images` must be how many"),
        ("images", True, "`images` must be how many"),
        ("images", "5", "`images` must be how many"),
        ("images", 10**40, "`images` must be how many"),
        ("classes", "normal", "`classes` must be names"),
        ("classes", [1], "`classes` must be names"),
        ("config.model.classes", 2, "`model.classes` must be 0 or 1"),
        ("config", None, "it is not: "),
        ("config.module", [], "`module` must hold"),
        ("config.seed", "0", "`seed` must be"),
        ("config.data.size", 10**12, "`data.size` must be 2 sides"),
        ("config.data.size", [16], "`data.size` must be 2 sides"),
        ("config.data.size", "16", "`data.size` must be 2 sides"),
        ("config.image.spatial_dims", 10**9, "`image.spatial_dims` must be 2 or 3"),
        ("inverse", {}, "it lacks"),
        ("inverse", None, "it is not: "),
        ("inverse.levels", [], "`inverse.levels` must be finite"),
        ("inverse.levels", None, "`inverse.levels` must be finite"),
        ("inverse.levels", [[1, 1]], "pairs of a lower and a higher"),
        ("inverse.levels", [["a", 2]], "`inverse.levels` must be finite"),
        ("inverse.levels", [[0, float("inf")]], "`inverse.levels` must be finite"),
        ("inverse.levels", [[float("nan"), 1]], "`inverse.levels` must be finite"),
        ("inverse.spacing_mm", [1.0, 0.0], "above 0"),
        ("inverse.spacing_mm", [1.0], "`inverse.spacing_mm` must be finite"),
        ("inverse.directions", "axial", "`inverse.directions` must be finite"),
        ("inverse.unit", 3, "must name its unit"),
        ("inverse.modality", "x" * 65, "must name its unit"),
    ],
)
def test_nonsense_beside_the_weights_is_refused(whole, refused, where, value, match) -> None:
    put(whole["medgan_pl"], where, value)
    refused(match)


def put(node: dict[str, Any], where: str, value: Any) -> None:
    *above, last = where.split(".")
    for key in above:
        node = node[key]
    node[last] = value


FIRST = "ema.network.start.0.weight"


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (lambda weights: weights.pop(FIRST), "1 weights are in one and not in the other, such as '" + FIRST),
        (lambda weights: weights.update(more=torch.zeros(1)), "such as 'more'"),
        (lambda weights: weights.update({FIRST: torch.zeros(3)}), r"'ema.network.start.0.weight' must be \(.*\), got \(3,\)"),
        (lambda weights: weights.update({FIRST: weights[FIRST].long()}), "of torch.int64"),
        (lambda weights: weights.clear(), "are in one and not in the other"),
    ],
)
def test_weights_of_other_settings_are_refused(whole, refused, harm, match) -> None:
    harm(whole["state_dict"])
    refused(f"do not fit the settings stored with them: .*{match}")


# Settings ---------------------------------------------------------------------------------------------------------------------------

LARGE: list[tuple[str, Any, str]] = [
    ("players.g.network.width", 10**9, "'width' must be at most"),
    ("players.g.network.width", 2**20, "do not fit the settings"),
    ("players.g.network.width", 10**600, "'width' must be at most"),
    ("players.g.network.width", -4, "do not fit the settings"),
    ("players.g.network.width", "wide", "do not fit the settings"),
    ("players.g.network.width", 4.5, "do not fit the settings"),
    ("players.g.network.size", 2**20, "`size` must make at most"),
    ("players.g.network.size", [2**14, 2**15], "`size` must make at most"),
    ("players.g.network.size", [8] * 1000, "do not fit the settings"),
    ("players.g.network.size", 2**14, "do not fit the settings"),
    ("players.g.network.spatial_dims", 2**20, "do not fit the settings"),
    ("players.d.network.width", 2**20, "do not fit the settings"),
    ("game.latent", 10**12, "'latent' must be at most"),
    ("ema.ramp", [0] * 10_000, "at most 5000 values"),
    ("ema.ramp", nested(40), "at most 32 levels deep"),
    ("ema.ramp", nested(14), "at most 5000 values"),
    ("ema.ramp", "x" * 5000, "at most 4096 letters"),
    ("ema.ramp", "${oc.env:HOME}", "must be resolved"),
    ("ema.ramp", {"_args_": [1]}, "`_target_` and `_partial_` alone, got '_args_'"),
    ("stages", {}, "do not fit the settings"),
    ("total_images", 2**60, "'total_images' must be at most"),
]


@pytest.mark.parametrize(("where", "value", "match"), LARGE, ids=[f"{where}-{i}" for i, (where, *_) in enumerate(LARGE)])
def test_settings_too_large_to_build_are_refused(whole, refused, where, value, match) -> None:
    put(whole["medgan_pl"]["config"]["module"], where, value)
    refused(match)


def test_a_thousand_networks_that_the_file_has_no_weights_for_are_refused(whole, refused) -> None:
    module = whole["medgan_pl"]["config"]["module"]
    module["stages"] = {f"stage{i}": module["players"]["g"]["network"] for i in range(500)}
    refused("the settings ask for more than [0-9]+ weights")


def test_a_loop_ends_where_the_weights_do() -> None:
    layers = []
    with pytest.raises(ValueError, match="more than 10 weights"), at_most(10):
        layers.extend(nn.Linear(1, 1) for _ in iter(int, 1))
    assert len(layers) == 5
    nn.Linear(1, 1)  # outside it no one counts


@pytest.mark.parametrize(
    "setting", ["model.discriminator.spectral_norm=true", "model=mlp", "model=dcgan", "image.spatial_dims=3", "seed=1"]
)
def test_what_a_run_writes_is_loaded(setting: str) -> None:
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", overrides=[*SMALL, setting]), resolve=True)
    module = build_module(config)
    inverse = INVERSE | {"spacing_mm": [1.0] * config["image"]["spatial_dims"]}
    state = {"format": FORMAT, "config": config, "classes": [], "images": 0, "inverse": inverse}
    Path("whole.ckpt").write_bytes(saved({"state_dict": module.state_dict(), "medgan_pl": state}))
    loaded = medgan_pl.load("whole.ckpt")
    found = loaded.state_dict()
    assert {name for name in module.state_dict() if not name.startswith("metrics.")} == found.keys()
    assert all(torch.equal(weight, found[name]) for name, weight in module.state_dict().items() if name in found)
    assert (loaded.training, loaded.config) == (False, config)


FOREIGN = [
    "torch.load",
    "builtins.open",
    "builtins.eval",
    "shutil.copy",
    "os.system",
    "hydra.utils.get_method",
    "hydra.utils.get_class",
    "hydra.utils.instantiate",
    "functools.partial",
    "subprocess.Popen",
    "torch.nn.Linear",
    "torch.optim.lr_scheduler.LambdaLR",
    "torch.optim.optimizer.torch.load",
    "medgan_pl.models.module.math.floor",
    "medgan_pl.models.module.torch.load",
    "medgan_pl.models.module.pl.Trainer",
    "medgan_pl.models.networks.layers.torch.hub.load",
    "medgan_pl.models.networks.x.y.os.system",
    "medgan_pl.models.games.base.dataclass",
    "medgan_pl.models.networks.mlp.Condition",  # ours, under another's name
    "medgan_pl.models.networks.layers.space",  # a function
    "medgan_pl.models.networks",
    "medgan_pl.models.networks.",
    "medgan_pl.models.networks/../x.Y",
    "medgan_pl.train.run.train",
    "medgan_pl.core.safe_load.read_checkpoint",
    "medgan_pl.networks_of_mine.X",
    "",
    None,
    5,
    ["torch.load"],
    {"_target_": "torch.load"},
]


@pytest.mark.parametrize("wrap", [lambda node: node, lambda node: {"a": [{"b": {"_partial_": True, "c": [node]}}]}], ids=["bare", "deep"])
@pytest.mark.parametrize("target", FOREIGN, ids=str)
def test_foreign_targets_are_refused(target: Any, wrap) -> None:
    with pytest.raises(ValueError, match="`_target_` must be the full name of a class"):
        check_targets(wrap({"_target_": target}))


@pytest.mark.parametrize(
    "node",
    [
        {"_args_": ["x"]},
        {"_recursive_": False},
        {"_convert_": "all"},
        {"_partial_": "yes"},
        {"_call_": 1},
        {"a": ({},)},
        {5: 1},
        {"a": b"x"},
    ],
    ids=str,
)
def test_other_words_of_hydra_and_other_containers_are_refused(node) -> None:
    with pytest.raises(ValueError, match=r"must be|may be|must have"):
        check_targets({"_target_": "medgan_pl.models.networks.ema.EMA", "deep": [node]})


def test_hydra_itself_would_have_run_it() -> None:
    Path("a").write_text("x")
    for target, arguments in (("shutil.copy", {"src": "a", "dst": "b"}), ("builtins.open", {"file": "c", "mode": "w"})):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = instantiate({"_target_": target, **arguments})
        if target == "builtins.open":
            made.close()
    assert Path("b").exists()
    assert Path("c").exists()


# Versions ---------------------------------------------------------------------------------------------------------------------------

KNOWN_HOLES = [  # the last version that has it
    ("torch", "2.9.1", "CVE-2026-24747"),
    ("pytorch-lightning", "2.6.3", "GHSA-w37p-236h-pfx3"),
    ("pytorch-lightning", "2.6.5", "CVE-2026-58659"),
    ("monai", "1.5.1", "CVE-2026-21851"),
    ("monai", "1.5.2", "GHSA-89gg-p5r5-q6r4"),
    ("pydicom", "3.0.1", "CVE-2026-32711"),
    ("pillow", "12.2.0", "CVE-2026-59199"),
]


@pytest.mark.parametrize(("package", "version", "hole"), KNOWN_HOLES)
def test_the_floors_exclude_known_holes(package: str, version: str, hole: str) -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    (wanted,) = [each for each in map(Requirement, project["dependencies"]) if each.name == package]
    assert version not in wanted.specifier, hole
    assert metadata.version(package) in wanted.specifier


# Secrets ----------------------------------------------------------------------------------------------------------------------------

KEY = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    "node",
    [
        {"logger": {"wandb": {"api_key": "x"}}},
        {"logger": {"wandb": {"name": f"run {KEY}"}}},
        {"callbacks": [{"HF_TOKEN": 123}]},
        {KEY: 1},
        ["model=dcgan", "logger.wandb.api_key=x"],
        ["+logger.wandb.api_key='x'"],
        [f"logger.wandb.name={KEY}"],
        ["+hydra.job.env_set={WANDB_API_KEY: x}"],
        ["+logger.wandb.api_key=${oc.env:WANDB_API_KEY}"],
        ["-m", "++a.password=x"],
    ],
    ids=str,
)
def test_a_secret_is_refused_and_not_shown(node, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with pytest.raises(ValueError, match="no secret may stand in the configuration or on the command line") as caught:
        check_secrets(node)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("key", [None, "", KEY])
def test_what_is_no_secret_passes(key, settings, monkeypatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("WANDB_API_KEY", key)
    check_secrets(settings())
    check_secrets(["-m", "logger.wandb.api_key=null", "model=dcgan,mlp", "data.files='T1w$'", "tokens=5", "hydra.run.dir=secret/run"])
    check_secrets({"api_key": None, "token": "", "password": False})


@pytest.mark.parametrize(("mistake", "code"), [((), 0), (("monitor=val/nothing",), 1), (("logger.wandb.api_key=" + KEY,), 1)])
def test_the_key_of_wandb_stands_in_no_file(mistake, code, here, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found, said = here("train", *TINY, "total_images=16", "validate_every=16", "log_every=8", "logger=wandb", "hydra.run.dir=run", *mistake)
    assert found == code, said
    assert told([said.encode()], [KEY]) == set()
    assert told(contents(tmp_path), [KEY]) == set()
    if any("api_key" in argument for argument in mistake):
        assert "no secret may stand" in said
        assert not Path("run").exists()
    else:
        assert list(Path("run").glob("wandb/*/*.wandb")), "nothing was written, so nothing is tested"
        Path("run/planted.txt").write_text(KEY)
        assert told(contents(tmp_path), [KEY]) == {KEY}  # the search finds it where it stands
