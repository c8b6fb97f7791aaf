"""Files that travel: read without running them and held to their own size."""

import ast
import io
import pickle
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from torch import nn
from written_checkpoint import Touches, nested, saved

import medgan_pl
from medgan_pl.core.safe_load import read_checkpoint
from medgan_pl.models.state import FORMAT, RunState

PACKAGE = Path(medgan_pl.__file__).parent

# Code -------------------------------------------------------------------------------------------------------------------------------


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
    every = list(calls())
    loads = [(where, given) for where, name, given in every if name == "torch.load"]
    goes_on = [(where, given) for where, name, given in every if "ckpt_path" in given or name.endswith("load_from_checkpoint")]
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
    found = [(where.split(":")[0], name) for where, name, given in every if name in unsafe or given.get("allow_pickle") is True]
    # A TorchScript file is a program that the user names to `evaluate` or `train`; no checkpoint can (tests/metrics/test_pretrained.py).
    assert found == [("torchscript.py", "torch.jit.load")]
    # The reader of checkpoints knows a few names and operations (test_archive.py); there is no other one.
    assert [path.name for path in PACKAGE.rglob("*.py") if ".Unpickler" in path.read_text()] == ["archive.py"]


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
        read_checkpoint("harmed.ckpt", RunState.from_plain)


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
        read_checkpoint("harmed.ckpt", RunState.from_plain)


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


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_refused(whole, refused, value: float) -> None:
    name = next(name for name in whole["state_dict"] if name.startswith("networks.g"))
    whole["state_dict"][name].view(-1)[0] = value
    refused(rf"evil.ckpt must hold finite weights; 1 of \d+ are NaN or infinite, such as '{name}'")


def test_states_of_optimizers_that_are_not_finite_are_refused(whole, refused) -> None:
    whole["optimizer_states"] = [{"state": {0: {"exp_avg": torch.tensor([1, torch.nan])}}}]
    refused("such as 'exp_avg of an optimizer'")


def test_a_text_of_megabytes_is_refused(whole, refused) -> None:
    for place in ("classes", "wandb"):
        before = whole["medgan_pl"].get(place)
        whole["medgan_pl"][place] = ["x" * 5000] if place == "classes" else "x" * 2_000_000
        refused("texts of at most 4096 letters, got 'x+'… with")
        whole["medgan_pl"][place] = before


def test_a_part_of_another_size_than_the_images_is_refused(whole, refused) -> None:
    whole["medgan_pl"]["config"]["module"]["game"]["size"] = 16384
    refused(r"`size` must be that of the images, \[16\], got 16384")


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
