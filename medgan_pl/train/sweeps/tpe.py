"""Hyperparameter search by Optuna, as a sweeper plugin of Hydra, so that it works with any launcher: one process, several, a cluster."""

import math
import os
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from medgan_pl.core.console import one_message
from medgan_pl.core.counts import whole_number

TPE = "hydra_plugins.medgan_pl.Tpe"


class Tpe(Sweeper):
    """Tree-structured Parzen estimator (Bergstra et al. 2011) by Optuna, over intervals and choices; the lowest objective is the best.

    - `trials`: all children over all starts of the sweep, including failed ones. `parallel`: number of children at once.
    - `startup`: trials drawn at random before the estimator is used.
    - `seed`: of the draws. Trial n depends on (seed, n) and the results known then: a resumed sweep asks for the same trials.
    - `params`: key -> what is searched, as on the command line, where the same key has priority: `interval(0,1)`,
      `tag(log,interval(0.01,0.3))`, `int(interval(4,64))` of whole numbers, and choices: `adam,sgd`.

    The study is stored in study.db in the sweep's folder. Trial n is job n; a trial without a result when the sweep stopped is run again in
    its folder, where its run resumes. A failed trial is not given to the estimator.
    """

    def __init__(self, *, trials: int, parallel: int, startup: int, seed: int, params: DictConfig | None) -> None:
        for name, count, least in (("trials", trials, 1), ("parallel", parallel, 1), ("startup", startup, 1), ("seed", seed, 0)):
            whole_number(f"hydra.sweeper.{name}", count, least)
        self.trials, self.parallel, self.startup, self.seed, self.params = trials, parallel, startup, seed, params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.loader = hydra_context.config_loader
        self.folder = Path(config.hydra.runtime.cwd, config.hydra.sweep.dir)
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        with one_message(None):
            if int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) > 1:
                raise ValueError(
                    "a search must be started as one process, got several by torchrun or srun, each of which would search by itself; use "
                    "trainer=ddp, which starts the others itself, or hydra/launcher=slurm"
                )
            lines = [*(f"{key}={value}" for key, value in self.params.items()), *arguments]
            parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(lines)
            overrides = {override.get_key_element(): override for override in parsed}  # the last override of a key applies
            space = {key: distribution(override) for key, override in overrides.items() if override.is_sweep_override()}
            if not space:
                raise ValueError("hydra/sweeper=tpe must have something to search, as optimizer_d.lr=tag(log,interval(0.01,0.3)); got none")
            self.search(space, [f"{key}={override.get_value_element_as_str()}" for key, override in overrides.items() if key not in space])

    def search(self, space: dict[str, Any], fixed: list[str]) -> None:
        """Run trials over `space` (key to distribution), all with the overrides `fixed`, until `trials` have run."""
        from optuna.trial import TrialState

        study = self.study(fixed)
        trials = self.left(study, space) or self.ask(study, space)
        while trials:
            jobs = [[*fixed, *(f"{key}={value}" for key, value in trial.params.items())] for trial in trials]
            for trial, job in zip(trials, self.launcher.launch(jobs, initial_job_idx=trials[0].number), strict=True):
                well = job.status == JobStatus.COMPLETED and math.isfinite(job.return_value)
                study.tell(trial.number, job.return_value if well else None, state=None if well else TrialState.FAIL)
            trials = self.ask(study, space)

    def left(self, study: Any, space: dict[str, Any]) -> list[Any]:
        """Return the trials that were running when the sweep stopped. A trial that is half drawn, or of another space, has failed."""
        from optuna.trial import TrialState

        running = study.get_trials(states=(TrialState.RUNNING,))
        for trial in running:
            if trial.params.keys() != space.keys():
                study.tell(trial.number, state=TrialState.FAIL)
        return [trial for trial in running if trial.params.keys() == space.keys()]

    def ask(self, study: Any, space: dict[str, Any]) -> list[Any]:
        """Return the next trials, none if there are enough. Each is keyed by its number, not by what this start of the sweep has drawn."""
        from numpy.random import SeedSequence
        from optuna.samplers import TPESampler

        first, trials = len(study.trials), []
        for number in range(first, min(first + self.parallel, self.trials)):
            seed = int(SeedSequence([self.seed, number]).generate_state(1)[0])
            # The constant liar counts running trials as bad ones, so that no two at once are equal.
            study.sampler = TPESampler(n_startup_trials=self.startup, seed=seed, constant_liar=True)
            trials.append(study.ask(space))
        return trials

    def study(self, fixed: list[str]) -> Any:
        """Return the study of the sweep folder, new or stored. Raise ValueError if it was searched with other fixed overrides."""
        import optuna

        self.folder.mkdir(parents=True, exist_ok=True)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(storage=f"sqlite:///{self.folder / 'study.db'}", study_name="sweep", load_if_exists=True)
        before, now = set(study.user_attrs.get("fixed", fixed)), set(fixed)
        if before != now:
            raise ValueError(
                f"a search must resume with its own settings, or its values cannot be compared; {self.folder} has {sorted(before - now)}, "
                f"here are {sorted(now - before)}; use another hydra.sweep.dir"
            )
        study.set_user_attr("fixed", fixed)
        return study


def distribution(override: Override) -> Any:
    """Return what Optuna draws from for a swept override: numbers for an interval, whole ones for int(interval(…)), else names."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    if not override.is_interval_sweep():
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    whole = isinstance(value.start, int) and isinstance(value.end, int)
    return (IntDistribution if whole else FloatDistribution)(value.start, value.end, log="log" in value.tags)
