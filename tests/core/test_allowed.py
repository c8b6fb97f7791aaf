"""Settings out of a file name the project's own classes and torch's optimizers alone."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate

from medgan_pl.core.allowed import check_targets
from medgan_pl.models import losses

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


def test_a_missing_class_and_a_module_that_does_not_import_are_named(tmp_path, monkeypatch) -> None:
    with pytest.raises(ValueError, match=r"medgan_pl\.models\.networks\.mlp has no class MLPGenerater \("):
        check_targets({"_target_": "medgan_pl.models.networks.mlp.MLPGenerater"})
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match=r"medgan_pl\.models\.losses\.broken cannot be imported: No module named 'no_such_package'"):
        check_targets({"_target_": "medgan_pl.models.losses.broken.Loss"})
