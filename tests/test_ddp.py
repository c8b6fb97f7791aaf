"""Two processes on the CPU: the ranks agree on the weights, share the films between them, and each draws its own noise."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import TINY

# A run of medgan_pl.train that also writes what each rank saw and what became of it. Lightning starts rank 1 by this same file.
SCRIPT = """
import os, sys, torch
from medgan_pl.module import AdversarialModule
from medgan_pl.train import main

step = AdversarialModule.training_step

def watched(self, batch, index):
    z = []
    draw = self.game.draw
    self.game.draw = lambda batch: (z.append(draw(batch)), z[-1])[1]
    step(self, batch, index)
    self.game.draw = draw
    weights = [value for network in (self.generator, self.discriminator) for value in network.parameters()]
    seen = {"record": batch["record"], "z": z[0]["z"], "weights": [value.detach().clone() for value in weights]}
    torch.save(seen, os.path.join(os.environ["PLACE"], f"{self.images}_{self.global_rank}.pt"))

AdversarialModule.training_step = watched
main()
"""


def test_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PLACE", str(tmp_path))
    Path("watched.py").write_text(SCRIPT)
    settings = [value for value in TINY if value != "trainer=cpu"]
    settings += ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.sync_batchnorm=false", "logger=csv"]
    done = subprocess.run(
        [sys.executable, "watched.py", *settings, "hydra.run.dir=here"], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    state = torch.load("here/checkpoints/last.ckpt", weights_only=True)["medgan_pl"]
    assert (state["images"], state["turns_d"]) == (64, 64 // (2 * 8))
    shown: list[int] = []
    for images in (16, 32, 48, 64):
        a, b = (torch.load(tmp_path / f"{images}_{rank}.pt", weights_only=True) for rank in (0, 1))
        assert all(torch.equal(x, y) for x, y in zip(a["weights"], b["weights"], strict=True))
        assert not torch.equal(a["z"], b["z"])
        shown += [*a["record"].tolist(), *b["record"].tolist()]
    assert len(set(shown[:48])) == 48  # the 48 films of the training split, each once in an epoch, whichever rank had it
