"""What all tests share. Shapes written in annotations are checked here and only here, by jaxtyping with beartype (typecheck.py)."""

import copy
import fcntl
import importlib
import io
import logging
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import typecheck  # noqa: F401  (before anything of the package is imported)
from command_line import TINY, command
from composing import compose_quickly
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from written_checkpoint import checkpoint_bytes, saved

import medgan_pl
from medgan_pl.core.console import configuration_folder

THREADS = 1  # two wait for each other on a busy machine, and the tests are too small to gain
torch.set_num_threads(THREADS)
compose_quickly()


@pytest.fixture(autouse=True)
def _nothing_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in an empty folder, without the user's caches, accounts or network, with the processor in its usual state."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("SAVE_REQUIREMENTS=false", "DISABLE_META=true", "DISABLE_MACHINE_INFO=true", "DISABLE_STATS=true"):
        monkeypatch.setenv(*f"WANDB_X_{name}".split("="))  # a fifth of the time of a short run
    monkeypatch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR", str(tmp_path / "mpl")))
    # Images are prepared in this process: others take longer to start than such small work to do. `prepare/test_cache.py` has them.
    monkeypatch.setattr("medgan_pl.data.datamodule.available_cores", lambda top: 0)
    torch.set_flush_denormal(False)  # a training in an earlier test has turned it on for the whole process
    torch.set_num_threads(THREADS)  # an earlier test may have changed it


@pytest.fixture(params=[False, True], ids=["", "as_in_training"])
def denormals_flushed(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the processor reads denormal numbers as 0, as it does in training."""
    torch.set_flush_denormal(request.param)
    yield request.param
    torch.set_flush_denormal(False)


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Composes the configuration of a run with overrides, resolved into plain containers, as train.py keeps it."""

    def compose_plain(*overrides: str) -> dict[str, Any]:
        config = composed(f"run_dir={tmp_path / 'run'}", *overrides)
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)

    return compose_plain


def composed(*overrides: str) -> DictConfig:
    """Compose as Hydra does. The options of groups, which take nearly all the time, are composed once; Hydra then applies the values."""
    options = tuple(word for word in overrides if (configuration_folder() / re.split("[@=]", word.lstrip("+~"))[0]).is_dir())
    config = pickle.loads(with_options(*options))
    values = OverridesParser.create().parse_overrides([word for word in overrides if word not in options])
    ConfigLoaderImpl._apply_overrides_to_config(values, config)
    return config


@cache
def with_options(*options: str) -> bytes:
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        return pickle.dumps(compose("config", overrides=["run_dir=run", *options]))  # copied by copy.deepcopy in six times as long


def of_all(factory: pytest.TempPathFactory) -> Path:
    """Return the temporary folder of all processes that run tests together."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], None]], Path]:
    """Return the folder `name`, which `make` has filled, working in it: once for all processes that run tests together.

    The tests only read it. `make` runs with a cache of its own in the folder's `cache`, and without wandb's network.
    """
    place = of_all(tmp_path_factory)

    def made_once(name: str, make: Callable[[], None]) -> Path:
        folder = place / "made-once" / name
        folder.parent.mkdir(exist_ok=True)
        with folder.with_suffix(".lock").open("w") as lock, pytest.MonkeyPatch.context() as patch:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.with_suffix(".done").exists():
                shutil.rmtree(folder, ignore_errors=True)  # another process failed half-way
                folder.mkdir()
                patch.chdir(folder)
                patch.setenv("MEDGAN_CACHE", str(folder / "cache"))
                patch.setenv("WANDB_MODE", "offline")
                make()
                folder.with_suffix(".done").touch()
        return folder

    return made_once


@pytest.fixture
def cohort_kept(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images that a test prepares are kept for all others with this fixture: their key says all that they depend on."""
    monkeypatch.setenv("MEDGAN_CACHE", str(of_all(tmp_path_factory) / "cache"))


@pytest.fixture(scope="session")
def finished(made_once: Callable[[str, Callable[[], None]], Path]) -> Path:
    """One run with all defaults but its size, shared by the tests that only read it."""
    arguments = ("model=resnet_gan", "data=chest_xray", *(word for word in TINY if word != "callbacks.curves=null"))
    place = made_once("user", lambda: command("train", *arguments))
    (run,) = (place / "outputs").glob("*/*")
    return run


@pytest.fixture(scope="session")
def written() -> bytes:
    """A small whole checkpoint, but for what only a resumed run needs."""
    return checkpoint_bytes()


@pytest.fixture
def whole(written: bytes) -> dict[str, Any]:
    """The content of that checkpoint, to be changed."""
    return copy.deepcopy(torch.load(io.BytesIO(written), weights_only=True))


@pytest.fixture
def refused(whole: dict[str, Any]) -> Callable[..., None]:
    """Loads the changed content from a file, and expects ValueError with these words."""

    def refused(match: str) -> None:
        Path("evil.ckpt").write_bytes(saved(whole))
        with pytest.raises(ValueError, match=match) as caught:
            medgan_pl.load("evil.ckpt")
        assert len(str(caught.value)) < 2000

    return refused


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs an entry point in this process, which spares the seconds of its imports: (exit code, what it said)."""

    def call(name: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        code = 0
        try:
            importlib.import_module(f"medgan_pl.{name}.__main__").main()
        except SystemExit as end:
            code = int(end.code or 0)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.close()
        return code, "".join(capfd.readouterr())

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield call
    root.handlers, root.level = handlers, level
