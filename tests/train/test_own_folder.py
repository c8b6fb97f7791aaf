"""The folder of a run or a sweep is taken before Hydra writes there, and belongs to one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from medgan_pl.core.lock import NAME, release
from medgan_pl.train.own_folder import OwnFolder, folder_of


def config_of(folder: Path, kind: str, given: list[str] | None = None) -> DictConfig:
    config = OmegaConf.create({"hydra": {"run": {"dir": "x"}, "sweep": {"dir": "x"}, "overrides": {"hydra": given or []}}})
    config.hydra[kind].dir = str(folder)
    OmegaConf.set_readonly(config.hydra, True)
    return config


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path, kind: str) -> None:
    first, second, third = (config_of(tmp_path / "it's now" / "09-30-00", kind) for _ in range(3))
    start = "on_run_start" if kind == "run" else "on_multirun_start"
    for config in (first, second, third):
        getattr(OwnFolder(), start)(config)
    folders = [folder_of(config, kind) for config in (first, second, third)]
    assert [folder.name for folder in folders] == ["09-30-00", "09-30-00-2", "09-30-00-3"]
    assert all((folder / NAME).is_file() for folder in folders)
    children = [f"hydra.sweep.dir='{str(folders[1]).replace(chr(39), chr(92) + chr(39))}'"] if kind == "sweep" else []
    assert list(second.hydra.overrides.hydra) == children
    for config in (first, second, third):
        getattr(OwnFolder(), start.replace("start", "end"))(config)
    assert not any((folder / NAME).exists() for folder in folders)


def test_a_given_folder_keeps_its_name_and_has_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"hydra.run.dir={tmp_path}"]
    holder = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from medgan_pl.core.lock import claim\n"
         "claim(Path(sys.argv[1]), ''); print('held', flush=True); sys.stdin.read()", str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SystemExit):
            OwnFolder().on_run_start(config_of(tmp_path, "run", given))
        said = capsys.readouterr().err
        assert f"{tmp_path} must have one writer at a time, and process {holder.pid} on " in said
        assert "choose another hydra.run.dir" in said
    finally:
        holder.communicate("")
    config = config_of(tmp_path, "run", given)
    OwnFolder().on_run_start(config)
    assert folder_of(config, "run") == tmp_path
    release(tmp_path)


def test_the_first_of_several_processes_takes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, taken in (("1", False), ("0", True)):
        monkeypatch.setenv("RANK", rank)
        OwnFolder().on_run_start(config_of(tmp_path / "run", "run", ["hydra.run.dir=run"]))
        assert (tmp_path / "run" / NAME).exists() == taken
    release(tmp_path / "run")
