"""Judge a generator by fidelity, diversity, utility and privacy: `python -m medgan_pl.evaluate checkpoint=outputs/…/best.ckpt`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.core.command import chosen_device, quiet_libraries
from medgan_pl.core.console import say
from medgan_pl.core.counts import whole_number
from medgan_pl.core.lock import OTHER_OUTPUT, only_writer
from medgan_pl.core.settings import for_judgement
from medgan_pl.core.visible import visible, within

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.evaluate.judge import Findings
    from medgan_pl.evaluate.report import Pictures
    from medgan_pl.evaluate.targets import Target
    from medgan_pl.metrics.judgement import Judgement


def of_the_run(arguments: list[str]) -> list[str]:
    """Return the arguments. With a checkpoint, those of the companions of its images and of its domains become additions (Hydra's ++),
    because the run determines their keys (`targets.checkpoint.data_of_run`), not the configuration."""
    if not any(argument.startswith("checkpoint=") for argument in arguments):
        return arguments
    return [f"++{each}" if each.startswith(("data.beside.", "data.domains.")) else each for each in arguments]


def run(config: "DictConfig") -> None:
    """Judge what the configuration names."""
    from hydra.core.hydra_config import HydraConfig

    evaluate(config, list(HydraConfig.get().overrides.task))


def evaluate(config: "DictConfig", overrides: list[str]) -> dict[str, Any]:
    """Judge, write the report, print its main results, and return the content of metrics.json."""
    quiet_libraries()
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from rich import get_console
    from rich.markup import escape

    from medgan_pl.data.scale import scale_of
    from medgan_pl.evaluate.judge import Judge, Options
    from medgan_pl.evaluate.report import write_report
    from medgan_pl.evaluate.targets import open_target

    check(config)
    device = chosen_device(config.device)
    console = get_console()
    with console.status("starting") as status:

        def announce(text: str) -> None:
            (status.update if console.is_terminal else console.print)(escape(visible(text)))

        target = open_target(config, overrides, device, announce)
        drawn = curves(target)
        options = Options(
            groups=tuple(config.groups),
            training=instantiate(config.use),
            **{key: config[key] for key in ("draws", "pairs", "batch_size", "seed")},
            device=device,
            features=target.data.cache_dir / "features",
            scale=scale_of(target.data),
        )
        output = Path(str(config.output)) if config.output is not None else target.folder
        with only_writer(output, OTHER_OUTPUT):
            found = Judge(
                target.sets,
                target.extractors,
                options,
                membership_unknown_because=target.membership_unknown_because,
                discriminator=target.discriminator,
                announce=announce,
            ).judge()
            judgement = within(judgement_of(target, found, for_judgement(OmegaConf.to_container(config, resolve=True))).plain())
            announce("writing the report")
            write_report(output, judgement, pictures_of(target, found), drawn)
    log_to_wandb(target, judgement, output, str(config.wandb))
    show(judgement, output)
    return judgement


def check(config: "DictConfig") -> None:
    from medgan_pl.metrics.catalogue import GROUPS

    groups = set(GROUPS) - {"diversity"}  # judged with fidelity, in the same features
    if not config.groups or set(config.groups) - groups:
        raise ValueError(f"`groups` must be some of {', '.join(sorted(groups))}, got {list(config.groups)}")
    for name, minimum in {"n": 1, "seed": 0, "draws": 20, "pairs": 0, "batch_size": 1}.items():
        whole_number(name, config[name], minimum)
    if config.wandb not in ("offline", "online", "disabled"):
        raise ValueError(f"`wandb` must be offline, online or disabled, got {config.wandb}")
    if config.output is not None:
        Path(str(config.output)).mkdir(parents=True, exist_ok=True)
    if not config.extractor:
        raise ValueError("`extractor` must name one extractor or more, such as extractor=[random,radiomics]")


def pictures_of(target: "Target", found: "Findings") -> "Pictures":
    """Return the pictures of the report: images evenly spaced through each set, not selected."""
    from medgan_pl.evaluate.report import SHOWN, SHOWN_PER_CLASS, Pairs, Pictures

    sets = target.sets
    by_class = {}
    if sets.fake.labels is not None and sets.reference.labels is not None:
        for number, name in enumerate(sets.classes):
            both = sets.fake.of_class(number), sets.reference.of_class(number)
            if all(len(images) for images in both):
                by_class[name] = tuple(images.first(SHOWN_PER_CLASS) for images in both)
    return Pictures(
        fake=sets.fake.first(SHOWN),
        real=sets.reference.first(SHOWN),
        per_class=by_class,
        pairs=[Pairs(space, c.fake, c.fake_train, c.fake_distance) for space, c in found.closest.items()],
        held_out_pairs=[Pairs(space, c.held_out, c.held_out_train, c.held_out_distance) for space, c in found.closest.items()],
        ladder=found.ladder,
        paired={} if sets.truth is None else {"Generated": sets.fake.first(SHOWN_PER_CLASS), "Truth": sets.truth.first(SHOWN_PER_CLASS)},
    )


def judgement_of(target: "Target", found: "Findings", settings: dict[str, Any]) -> "Judgement":
    """Return the judgement: the facts of the target, the findings, and the settings."""
    from datetime import UTC, datetime

    from medgan_pl.core.version import __version__
    from medgan_pl.metrics.judgement import Judgement

    return Judgement(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
        subject=target.facts,
        data=data_facts(target),
        spaces=found.spaces,
        settings=settings,
        run=target.run,
        verdicts=found.verdicts,
        results=found.results,
        notes=[*target.notes, *found.notes],
    )


def data_facts(target: "Target") -> dict[str, Any]:
    """Return `data` of metrics.json."""
    from medgan_pl.data.modality import noun
    from medgan_pl.data.sets import digest

    data, sets = target.data, target.sets
    reals = {name: images for name in ("train", "reference", "floor") if (images := getattr(sets, name)) is not None}
    return {
        "title": data.source.title if data.phantom else f"{len(data.records):,} {noun(data.modality)} ({data.modality.name})",
        "phantom": data.phantom,
        "modality": data.modality.name,
        "unit": data.inverse.unit,
        "classes": list(data.classes),
        "size": list(data.size),
        "channels": data.channels,
        "spatial_dims": data.spatial_dims,
        "split_hash": digest(data.fingerprint, sets.reference.key, sets.floor.key),
        "counts": {name: len(images) for name, images in reals.items()} | {"fake": len(sets.fake)},
        "patients": {name: images.patients for name, images in reals.items()},
        "per_class": {name: len(sets.reference.of_class(number)) for number, name in enumerate(data.classes)},
    }


def curves(target: "Target") -> dict[str, tuple[list[float], list[float]]]:
    """Return the columns of the run's metrics.csv, {} if there is none."""
    from medgan_pl.core.files import read_table

    table = target.folder.parent / "metrics.csv"
    return read_table(table) if target.run and table.is_file() else {}


def log_to_wandb(target: "Target", judgement: dict[str, Any], output: Path, mode: str) -> None:
    """Log the numbers of the report as `report/<name>` in the summary of the judged run, or of a run of their own. The page is not
    uploaded, because it shows patients."""
    if mode == "disabled":
        return
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    rows = [row for row in judgement["results"] if row["estimate"]]
    values = {f"report/{row['name']}": row["estimate"]["value"] for row in rows}
    values |= {f"report/{row['name']}/{end}": row["estimate"][end] for row in rows for end in ("low", "high")}
    values |= {f"report/{row['name']}/floor": row["floor"]["value"] for row in rows if row["floor"]}
    folder = target.folder.parent if target.run else output
    name = None if target.wandb else target.facts["name"]
    run = wandb.init(project="medgan_pl", id=target.wandb, resume="allow", mode=mode, dir=str(folder), job_type="evaluate", name=name)
    run.summary.update(values)
    run.finish()


def show(judgement: dict[str, Any], output: Path) -> None:
    """Print the answers, the caveats and the main numbers."""
    from rich import get_console
    from rich.table import Table

    from medgan_pl.metrics.catalogue import GROUPS

    console = get_console()
    for group, verdict in judgement["verdicts"].items():
        console.print(f"{verdict['mark']:>9}  {GROUPS[group]} {verdict['text']}", markup=False, highlight=False)
    for note in judgement["notes"]:
        console.print(f"     note  {note}", markup=False, highlight=False)
    table = Table("", "value", "95 % interval", "reals", box=None)
    for row in judgement["results"]:
        if row["estimate"] and not row["label"]:
            ends, floor = row["estimate"], row["floor"]
            interval = f"{ends['low']:.3g} to {ends['high']:.3g}"
            table.add_row(row["name"], f"{ends['value']:.3g}", interval, f"{floor['value']:.3g}" if floor else "")
    console.print(table)
    say(f"report.html, metrics.json and model_card.md are in {output}")
