"""Secrets are kept out of every file that a run writes."""

from pathlib import Path

import pytest
from command_line import TINY
from test_privacy import contents, told

from medgan_pl.core.credentials import check_secrets

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
    few = ("data.cohort.patients=20", "total_images=16", "validate_every=16", "log_every=8")
    found, said = here("train", *TINY, *few, "logger=wandb", "hydra.run.dir=run", *mistake)
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
