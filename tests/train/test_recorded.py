"""The lines of a run folder's overrides.yaml are data: those of our runs are taken, an attacker's are refused before anything is built."""

import json
from pathlib import Path

import pytest

from medgan_pl.train.recorded import recorded

FINE = [
    ["model=resnet_gan", "data=chest_xray"],
    ["experiment=denoise_film", "data.batch_size=2", "trainer.max_time=00:01:00:00"],
    ["model=stylegan2", "trainer=ddp", "total_images=100000000", "logger=csv", "init_from=../other/best.ckpt"],
    ["data=ct", "data.root='/data/it (1)'", "data.files='(a|b)'", "+data.covariates=[age]", "optimizer@optimizer_g=adam"],
    ["metrics=full", "objective=hinge", "penalty=r1", "~metrics.random", "callbacks.progress=null"],
]  # fmt: skip
HOSTILE = {
    "a target of a callback": "callbacks.curves._target_=os.system",
    "a target of the logger": "logger.table._target_=shutil.rmtree",
    "a target of the trainer": "trainer._target_=subprocess.Popen",
    "a target of the data": "data.modality._target_=torch.load",
    "a target of the game": "game._target_=torch.hub.load",
    "a target of the module": "module._target_=torch.load",
    "a target of an optimizer": "optimizer_g._target_=torch.load",
    "a target deep in a list": "+data.degrade=[{a: [{_target_: os.system}]}]",
    "a target in a value": "+data.x={_target_: torch.load, f: evil.pkl}",
    "arguments without names": "+data.x={_target_: medgan_pl.data.intensity.Window, _args_: [1]}",
    "a new callback": "+callbacks.x._target_=os.system",
    "a new callback as a value": "++callbacks.x={_target_: os.system, command: ls}",
    "a program": "metrics.random.extractor._target_=medgan_pl.metrics.extractors.torchscript.load_torchscript",
    "a launcher": "hydra/launcher=processes",
    "a key of Hydra": "hydra.job.env_set.LD_PRELOAD=evil.so",
    "a log handler": "+hydra.job_logging.handlers.x.class=os.system",
    "a folder of options": "hydra.searchpath=[file:///evil]",
    "a group in Hydra": "logger@hydra.sweeper=csv",
    "an option elsewhere": "model=../../../../tmp/evil",
    "an option elsewhere, placed": "logger@callbacks.z=../../evil",
    "the environment": "data.root=${oc.env:HOME}",
    "a flag": "--config-dir=/evil",
    "another folder": "run_dir=/home/user",
    "a table elsewhere": "logger.table.path=/home/user/.bashrc",
    "a table beside the run": "logger.table.path=../other/metrics.csv",
    "a picture elsewhere": "callbacks.curves.path=.bashrc",
    "checkpoints elsewhere": "callbacks.checkpoints.folder=~/.ssh",
    "a folder of the trainer": "+trainer.default_root_dir=/tmp",
    "wandb elsewhere": "logger.wandb.save_dir=/home/user",
    "no line": "data.root=[",
    "a sweep": "data.size=16,32",
    "a long line": "data.root=" + "x" * 5000,
}


def folder_of(tmp_path: Path, content: str) -> Path:
    (tmp_path / "overrides.yaml").write_text(content)
    return tmp_path


@pytest.mark.parametrize("lines", FINE, ids=lambda lines: lines[0])
def test_lines_of_our_runs_are_taken(tmp_path: Path, lines: list[str]) -> None:
    assert recorded(folder_of(tmp_path, json.dumps([*lines, "resume.force=true"])), []) == lines


@pytest.mark.parametrize("name", HOSTILE)
def test_an_attack_is_refused_by_its_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"overrides.yaml must hold the settings of a run, .* type it yourself after resume="):
        recorded(folder_of(tmp_path, json.dumps(["model=resnet_gan", HOSTILE[name]])), [])


@pytest.mark.parametrize(
    "content",
    ["", "a: b", "- [model=x]", "- 1", "!!python/object/apply:os.system ['touch ran']", "&a [*a]", "\0",
     "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"],
)  # fmt: skip
def test_a_file_that_is_no_list_of_lines_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match="must hold the settings of a run"):
        recorded(folder_of(tmp_path, content), [])
    assert not Path("ran").exists()


def test_more_lines_than_a_run_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it must be a list of at most 1000 lines"):
        recorded(folder_of(tmp_path, json.dumps(["a=1"] * 1001)), [])


def test_what_is_typed_anew_is_the_users_own(tmp_path: Path) -> None:
    run = folder_of(tmp_path, json.dumps(["model=resnet_gan", "logger.table._target_=mine.Table", "data.root=${oc.env:DATA}"]))
    assert recorded(run, ["logger.table._target_=mine.Table", "++data.root=/x"]) == ["model=resnet_gan"]


def test_a_folder_without_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"overrides\.yaml, where the run's own settings stand; it does not exist"):
        recorded(tmp_path, [])
