"""Resume a run: its command line, its checkpoint, its folder."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from medgan_pl.core.console import say
from medgan_pl.core.credentials import check_secrets

if TYPE_CHECKING:
    from medgan_pl.core.safe_load import Stored
    from medgan_pl.models.state import RunState


def prepare(arguments: list[str]) -> list[str]:
    """Return the arguments that Hydra reads for a run: `resume` spelled out, other processes than the first silent. Secrets are refused."""
    check_secrets(arguments)  # before Hydra writes them down
    arguments = continued(arguments)
    return [*arguments, *check_launch(arguments)]


def continued(arguments: list[str]) -> list[str]:
    """Return the command line with `resume=…` written as `resume.path=…`.

    With a run folder or a checkpoint, return the run's own command line followed by the new arguments; the run keeps writing to its folder.
    With a hydra.run.dir, the arguments stay as they are.
    Raise FileNotFoundError if the path is neither; errors as `recorded`, whose lines are data.
    """
    given = [argument.split("=", 1)[1].strip("'\"") for argument in arguments if argument.startswith(("resume=", "resume.path="))]
    new = [argument for argument in arguments if not argument.startswith(("resume=", "resume.path="))]
    if not given:
        return arguments
    if given[-1] in ("auto", "never"):
        return [*new, f"resume.path={given[-1]}"]
    path = Path(given[-1]).resolve()
    if not path.is_file() and not (path / "checkpoints").is_dir():
        raise FileNotFoundError(f"`resume` must be auto, never, a checkpoint, or a run folder that holds checkpoints/; {path} is none")
    if any(argument.startswith("hydra.run.dir=") for argument in arguments):
        return [*new, f"resume.path='{path}'"]
    run = path.parent.parent if path.is_file() else path
    from medgan_pl.train.recorded import recorded

    own = recorded(run, new)
    say(f"with the settings of {run}: {' '.join(own) or 'the defaults'}")
    return [*own, *new, f"hydra.run.dir='{run}'", f"resume.path='{path}'"]


def check_launch(arguments: list[str]) -> list[str]:
    """Return the arguments to add for one of several processes that torchrun or srun started, so that only the first one logs and writes.

    Raise ValueError if no folder is given that all of the processes know.
    """
    rank, world = launched()
    if world > 1 and not any(argument.startswith(("hydra.run.dir=", "hydra.sweep.dir=")) for argument in arguments):
        raise ValueError(
            "`hydra.run.dir` must be given under torchrun and srun, where each process would name a folder by its own clock; add "
            "hydra.run.dir=outputs/<name> (under SLURM outputs/$SLURM_JOB_ID, which a requeued job keeps)"
        )
    return ["hydra.output_subdir=null", "hydra.job_logging.root.level=WARNING"] if rank > 0 else []


def launched() -> tuple[int, int]:
    """Return the number of this process and the count of processes that torchrun or srun started; (0, 1) without them."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return int(os.environ.get("SLURM_PROCID", 0)), int(os.environ["SLURM_NTASKS"])
    return 0, 1


def check_processes(world: int) -> None:
    """Raise ValueError if torchrun or srun started several processes, and the trainer has another number of devices than that."""
    _, started = launched()
    if started not in (1, world):
        raise ValueError(
            f"the trainer must have one device for each of the {started} processes that were started, got {world}; each would train "
            f"a model of its own in the same folder; use trainer=ddp trainer.devices={started}, or fewer devices and trainer.num_nodes"
        )


def checkpoint_to_resume(resume: str, run_dir: Path) -> "Stored[RunState] | None":
    """Return the checkpoint that `resume.path` means, read whole, or None.

    auto is the newest whole checkpoint of this run folder, if there is one; never is none; a run folder is its newest checkpoint; a
    checkpoint is itself. Raise FileExistsError if another run would start over the one in this folder, ValueError for a file without the
    progress of a run.
    """
    from medgan_pl.models.state import read_stored
    from medgan_pl.train.checkpoints import newest

    path = run_dir if resume in ("auto", "never") else Path(resume)
    found = read_stored(path) if path.is_file() else None
    if resume != "never":
        found = found or newest(path / "checkpoints")
    if found is None and resume not in ("auto", "never"):
        raise FileNotFoundError(
            f"`resume` must be a run folder with a whole checkpoint, or a checkpoint; there is none in {path}/checkpoints"
        )
    own = (run_dir / "checkpoints").resolve()
    if any(own.glob("*.ckpt")) and not (found and found.path.resolve().parent == own):
        raise FileExistsError(
            f"{run_dir} holds the checkpoints of a run, and resume={resume} would begin another over them"
            f"{', since none of them is whole' if resume == 'auto' else ''}; move that folder away, or choose another hydra.run.dir"
        )
    if found and found.state.progress is None:
        raise ValueError(f"`resume` must be a checkpoint of a run in training; {found.path} holds weights without the progress of a run")
    return found
