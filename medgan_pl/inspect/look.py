"""Inspect a data set before training: `python -m medgan_pl.inspect data=ct data.root=/data/ct`; exit code 1 if it is unfit."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from medgan_pl.core.command import quiet_libraries
from medgan_pl.core.console import say
from medgan_pl.core.files import write_whole
from medgan_pl.core.lock import OTHER_OUTPUT, only_writer
from medgan_pl.core.visible import visible

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.data.datamodule import ImageDataModule


def inspect(config: "DictConfig") -> bool:
    """Print and write the survey of a data set. Return True if it is fit to train on."""
    quiet_libraries()
    from hydra.utils import instantiate

    from medgan_pl.data.readers.scan import NoDecoder
    from medgan_pl.data.summary import passed_over
    from medgan_pl.inspect.listed import pair_lines, write_table
    from medgan_pl.inspect.survey import draw_histogram, survey, table_lines

    output, root = Path(config.output).resolve(), config.data.root
    if root is not None and output.is_relative_to(Path(root).expanduser().resolve()):
        raise ValueError(f"`output` must lie outside data.root, or the next inspection finds the pictures of this one; got {output}")
    check_writable(output)
    data: ImageDataModule = instantiate(config.data, _convert_="all")
    if config.descriptions:
        for description, count in data.source.descriptions().most_common():
            say(f"series description {description!r}: {count} (on this screen only)")
    unfit = None
    try:
        data.read()
        data.setup()
    except (ValueError, FileNotFoundError, NoDecoder) as error:
        if not data.table:
            raise
        unfit = str(error)
    scans = survey([record for record in data.table if record.name not in data.unusable], data.cache)
    lines = data.summarize() if unfit is None else [data.source.title, *passed_over(data.source.skipped)]
    lines += [*pair_lines(data), *table_lines(scans), *(f"unusable  {name}: {why}" for name, why in data.unusable.items())]
    odd = sum(bool(scan["odd"]) for scan in scans)
    lines.append(f"UNFIT: {unfit}" if unfit else "fit to train on" + (f"; {odd} of {len(scans)} scans are odd, see above" if odd else ""))
    text = "".join(f"{visible(line)}\n" for line in lines)
    print(text, end="")
    with only_writer(output, OTHER_OUTPUT):
        write_whole(output / "report.txt", text.encode())
        report = {"unfit": unfit, "unusable": data.unusable, "skipped": data.source.skipped, "splits": data.sizes(), "scans": scans}
        report |= {"covariates": data.covariates.plain()}
        write_whole(output / "report.json", (json.dumps(report, indent=2) + "\n").encode())
        if scans:
            draw_histogram(list(data.cache.entries.values()), output / "histogram.png")
            contact_sheet(data, output / "contact_sheet.png")
        write_table(data, output / "dataset.csv")
    say(f"{', '.join(sorted(path.name for path in output.iterdir() if path.is_file()))} are in {output}")
    return unfit is None


def check_writable(folder: Path) -> None:
    """Raise ValueError unless the folder, or the nearest one above it that exists, can be written."""
    above = next(place for place in (folder, *folder.parents) if place.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise ValueError(f"`output` must be a folder that can be written, got {folder}, and {above} cannot; choose another: output=…")


def contact_sheet(data: "ImageDataModule", path: Path, max_images: int = 48) -> None:
    """Draw one picture each of at most 48 scans, evenly spaced: the film, or the middle slice of a series or volume."""
    from medgan_pl.inspect.survey import draw_contact_sheet

    usable = [record for record in data.table if record.digest in data.cache.entries]
    chosen = usable[:: -(-len(usable) // max_images)]
    draw_contact_sheet(chosen, [data.cache.picture(record.digest) for record in chosen], path)
