"""Two processes on the CPU: they agree to the bit, share the images, draw their own noise, and are one process with the whole batch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import TINY, Process
from games_of_numbers import NumbersData
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch.utils.data import DataLoader
from two_ranks import two_ranks

from medgan_pl.core.batch import Batch
from medgan_pl.core.console import configuration_folder
from medgan_pl.models.build import build_module
from medgan_pl.train.trainer import build_trainer

SMALL = ("data.size=16", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "logger=csv", "run_dir=here")
SMALL += ("total_images=32", "log_every=32", "validate_every=16")
# Plain gradient descent: Adam would blow rounding up to its step size.
SMALL += ("optimizer@optimizer_g=sgd", "optimizer_g.lr=0.1", "schedule@schedule_g=constant", "schedule@schedule_d=constant")
# The mlp has no batch norm; with it, the parts of an accumulated batch would hold other images in one process than in two.
# Every second turn is without the penalty, so a plain run is a part of these.
RUNS = {
    "batch norm, lazy R1, clipping": ("model=dcgan", "penalty=r1", "penalty.every=2", "d_per_g=2", "clip_d=0.5", "clip_g=0.1"),
    # D tells fewer than 0.99 of the pairs whoever counts them, so that the probability falls alike.
    "augmented": (
        "model=mlp",
        "penalty=r1r2",
        "augment=ada",
        "augment.strength.start=0.5",
        "augment.strength.target=0.99",
        "augment.strength.full_images=100",
        "augment.strength.every=2",
        "regularizer=[lecam,consistency]",
        "regularizers.lecam.warmup=1",
    ),
    "accumulated": ("model=mlp", "penalty=wgan_gp", "penalty.every=2", "d_per_g=2", "clip_d=0.5", "accumulate=2"),
}
TRAINERS = {1: ("trainer=cpu",), 2: ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")}
TOGETHER = 8  # images of a step, over all ranks
HELD_OUT = 17  # rank 0 validates 9 images in two batches, rank 1 validates 8 in one


class Brought(NumbersData):
    """Images that bring their own noise, keyed by their number; the ranks share them as the real data module does."""

    def images(self, numbers: range) -> Batch:
        keys = [torch.Generator().manual_seed(number) for number in numbers]
        return {
            "image": torch.stack([torch.randn(1, 16, 16, generator=key).tanh() for key in keys]),
            "z": torch.stack([torch.randn(8, generator=key) for key in keys]),
            "t": torch.cat([torch.rand(1, generator=key) for key in keys]),
            "augment": torch.stack([torch.rand(14, generator=key) for key in keys]),
            "regularize_consistency": torch.stack([torch.rand(3, generator=key) for key in keys]),
        }

    def train_batches(self) -> Iterator[Batch]:
        rank, share = self.trainer.global_rank, TOGETHER // self.trainer.world_size
        while True:
            first = self.trainer.lightning_module.images + rank * share
            yield self.images(range(first, first + share))

    def train_dataloader(self) -> Iterator[Batch]:
        return self.train_batches()

    def val_dataloader(self) -> DataLoader:
        mine = range(self.trainer.global_rank, HELD_OUT, self.trainer.world_size)
        return DataLoader([{"image": self.images(mine[i : i + 8])["image"]} for i in range(0, len(mine), 8)], batch_size=None)


def play(rank: int, world: int) -> dict[str, Any]:
    """Every run: its final state, what the module keeps besides, and its last row of the log."""
    return {name: one_run(*overrides, *TRAINERS[world]) for name, overrides in RUNS.items()}


def one_run(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        config = compose("config", overrides=[*SMALL, *overrides])
    module = build_module(OmegaConf.to_container(config, resolve=True))
    trainer = build_trainer(config, [], [])
    trainer.fit(module, datamodule=Brought())
    row = {key: float(value) for key, value in module.row.items() if key != "images_per_second"}
    return {"state": module.state_dict(), "row": row, "images": module.images, "turns": module.turns["d"]}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return play(0, 1), two_ranks(play, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_are_one_process_with_the_whole_batch(played, name) -> None:
    whole, (a, b) = played[0][name], [rank[name] for rank in played[1]]
    for key, value in a["state"].items():
        assert torch.equal(value, b["state"][key]), f"the ranks differ in {key}"
        torch.testing.assert_close(value, whole["state"][key], rtol=1e-4, atol=1e-5, msg=lambda why, key=key: f"{key}: {why}")
    assert a["row"] == b["row"]
    rows = [{key: value for key, value in row.items() if key != "train/d/accuracy"} for row in (a["row"], whole["row"])]
    assert rows[0] == pytest.approx(rows[1], rel=1e-3, abs=1e-5)  # but for the accuracy, which is over the pairs within a rank
    assert {"val/fd_random", "train/g/loss"} <= rows[0].keys()
    assert (a["images"], a["turns"]) == (whole["images"], whole["turns"]) == (32, 4)


def test_processes_that_would_each_train_a_model_of_their_own_are_refused(here, monkeypatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    code, said = here("train", *TINY, "logger=csv", "hydra.run.dir=here")
    assert code == 1
    assert "the trainer must have one device for each of the 2 processes that were started, got 1" in said
    assert not Path("here/metrics.csv").exists()


@pytest.mark.parametrize(("job", "devices", "nodes"), [({}, 1, 1), ({"SLURM_NTASKS_PER_NODE": "4", "SLURM_NNODES": "2"}, 4, 2)])
def test_slurm_says_how_many(settings, monkeypatch, job, devices, nodes) -> None:
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    trainer = settings("trainer=slurm")["trainer"]
    assert (trainer["devices"], trainer["num_nodes"]) == (devices, nodes)


# A run of medgan_pl.train that also writes what each rank saw and what became of it. Lightning starts rank 1 by this same module.
SCRIPT = """
import os, sys, torch
from medgan_pl.models.module import AdversarialModule
from medgan_pl.train.__main__ import main

step = AdversarialModule.training_step

def watched(self, batch, index):
    z = []
    draw = self.game.draw
    self.game.draw = lambda batch: (z.append(draw(batch)), z[-1])[1]
    step(self, batch, index)
    self.game.draw = draw
    weights = [value for network in self.networks.values() for value in network.state_dict().values()]
    seen = {"record": batch["record"], "z": z[0]["z"], "weights": [value.detach().clone() for value in weights]}
    torch.save(seen, os.path.join(os.environ["PLACE"], f"{self.images}_{self.global_rank}.pt"))

AdversarialModule.training_step = watched
main()
"""


@pytest.mark.slow  # .ci/run runs it
def test_a_run_of_two_processes(tmp_path: Path) -> None:
    Path("watched.py").write_text(SCRIPT)
    settings = [value for value in TINY if value not in ("trainer=cpu", "validate_every=32")]
    settings += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "logger=csv", "validate_every=64", "hydra.run.dir=here"]
    run = Process("watched", *settings, within="", out=Path("said"), env={"PLACE": str(tmp_path)})
    assert run.wait() == 0, Path("said").read_text()
    state = torch.load("here/checkpoints/last.ckpt", weights_only=True)["medgan_pl"]
    assert (state["images"], state["turns"]["d"]) == (64, 64 // (2 * 8))
    shown: list[int] = []
    for images in (16, 32, 48, 64):
        a, b = (torch.load(tmp_path / f"{images}_{rank}.pt", weights_only=True) for rank in (0, 1))
        assert all(torch.equal(x, y) for x, y in zip(a["weights"], b["weights"], strict=True))
        assert not torch.equal(a["z"], b["z"])
        shown += [*a["record"].tolist(), *b["record"].tolist()]
    assert len(set(shown[:48])) == 48  # the 48 films of the training split, each once in an epoch, whichever rank had it
