"""Nothing of what a DICOM header says about a patient is in any file or line that a user gets: not after looking, training or sampling."""

import gzip
import hashlib
import io
import struct
import zipfile
from pathlib import Path

import pytest
from planted_patients import PERSONS, TAGS, contents, derived, planted, png_text, told, write_set

DATA = ("data.size=16", "data.fractions=[0.5,0.3,0.2]", "data.max_corrupt=0.9", "data.batch_size=8")
TINY = (
    *("model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "total_images=16", "log_every=8"),
    *("validate_every=16", "callbacks.samples.n=4", "trainer=cpu"),
)


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that everything is written to: the user's home, temporary files, the run."""
    place = tmp_path / "place"
    for name in ("home", "tmp", "work"):
        (place / name).mkdir(parents=True)
    monkeypatch.chdir(place / "work")
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("TMPDIR", str(place / "tmp"))
    monkeypatch.setenv("MEDGAN_CACHE", str(place / "cache"))
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(place / "wandb-home"))
    return place


CT, XRAY = ("ct", ("callbacks.curves=null",), "png,nifti,dicom"), ("xray", ("logger=csv",), "png16,dicom")


@pytest.mark.parametrize(("kind", "loggers", "formats"), [CT, XRAY], ids=["ct", "xray"])
def test_no_file_and_no_line_tells_of_a_patient(
    kind: str, loggers: tuple[str, ...], formats: str, tmp_path: Path, sealed: Path, here
) -> None:
    """wandb and a training that stops at bad files with CT, curves and an inspection that finds films unfit with X-rays."""
    write_set(kind, tmp_path / "set")
    assert told(contents(tmp_path / "set"), planted()) == {*planted()}  # what is searched for below is there
    words = [*planted(), *derived()]
    data = [f"data={kind}", f"data.root={tmp_path / 'set'}", *DATA]
    small = [*TINY, *loggers]
    first = {
        "ct": [(0, ["inspect", *data, "output=looked"]), (1, ["train", *data, *small, "data.max_corrupt=0", "hydra.run.dir=stopped"])],
        "xray": [(1, ["inspect", *data, "output=judged", "data.max_corrupt=0"])],
    }
    printed = []
    for expected, command in (
        *first[kind],
        (0, ["train", *data, *small, "hydra.run.dir=run"]),
        (0, ["sample", "checkpoint=run/checkpoints/last.ckpt", "n=2", f"format=[{formats}]", "device=cpu"]),
    ):
        code, said = here(*command)
        assert code == expected, said
        printed.append(said)
    last = {"ct": "work/run/wandb/*/*.wandb", "xray": "work/run/*.png"}[kind]
    for pattern in ("cache/*/values.bin", "work/run/checkpoints/*.ckpt", "work/run/generated/*.json", last):
        assert list(sealed.glob(pattern)), f"{pattern}: nothing was written, so nothing is tested"
    assert told((text.encode() for text in printed), words) == set()
    assert told(contents(sealed), words) == set()


def test_descriptions_are_for_the_screen_only(tmp_path: Path, sealed: Path, here) -> None:
    write_set("ct", tmp_path / "set")
    code, said = here("inspect", "data=ct", f"data.root={tmp_path / 'set'}", *DATA, "descriptions=true")
    assert code == 0
    assert said.count(TAGS["SeriesDescription"]) == 1
    assert told([said.replace(TAGS["SeriesDescription"], "").encode()], planted()) == set()
    assert told(contents(sealed), planted()) == set()


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", content)
    return buffer.getvalue()


def wandb_run(content: bytes) -> bytes:
    """A record in two pieces."""
    return b":W&B\0\0\0" + b"".join(struct.pack("<IHB", 0, 4, kind) + part for kind, part in ((2, content[:4]), (4, content[4:8])))


@pytest.mark.parametrize(
    "pack",
    [bytes, bytes.lower, gzip.compress, zipped, lambda c: zipped(gzip.compress(c)), png_text, wandb_run]
    + [lambda c, code=code: c.decode().encode(code) for code in ("utf-16", "utf-16-be", "utf-32")],
)
def test_what_is_told_is_found(pack, tmp_path: Path) -> None:
    """The search above finds a word in whatever it is packed; a hash counts as a word."""
    (tmp_path / "run" / "deep").mkdir(parents=True)
    (tmp_path / "run" / "deep" / "innocent.txt").write_text("nothing")
    assert told(contents(tmp_path / "run"), [*planted(), *derived()]) == set()
    (tmp_path / "run" / "deep" / "file").write_bytes(b"\xff\x00" * (pack is bytes) + pack(b"KOMMENTARIUS"[:8]))
    assert told(contents(tmp_path / "run"), [*planted(), "KOMMENTA"]) == {"KOMMENTA"}


def test_hashes_and_file_names_are_found(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(hashlib.sha256(PERSONS[0]["PatientID"].encode()).hexdigest())
    (tmp_path / "1953-02-11.png").touch()
    (tmp_path / PERSONS[2]["AccessionNumber"]).mkdir()
    found = told(contents(tmp_path), [*planted(), *derived()])
    assert {hashlib.sha256(PERSONS[0]["PatientID"].encode()).hexdigest()[:12], "1953-02-11", PERSONS[2]["AccessionNumber"]} <= found
