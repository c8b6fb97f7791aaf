"""A trained image-to-image generator on whole images: `python -m medgan_pl.apply checkpoint=…/best.ckpt input=DIR output=DIR`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.core.command import chosen_device, quiet_libraries
from medgan_pl.core.console import say
from medgan_pl.core.counts import whole_number
from medgan_pl.core.lock import OTHER_OUTPUT, clear, only_writer
from medgan_pl.models.load import load

if TYPE_CHECKING:
    from omegaconf import DictConfig


MOVED_LEVELS = (
    "note: this generator was trained with the levels of each clean image; here they come from the image in fog, which moves them, so "
    "the output may have another contrast; train with fixed levels, intensity@data.intensity=full_range or a CT window"
)


def apply(config: "DictConfig") -> bool:
    """Write the output of the generator for each input; return False if an input could not be used."""
    quiet_libraries()
    from omegaconf import OmegaConf
    from rich.progress import track

    from medgan_pl.apply.detail import clipping
    from medgan_pl.apply.inference import Inference
    from medgan_pl.apply.inputs import gather, targets
    from medgan_pl.data.readers.scan import blaming

    settings = checked(OmegaConf.to_container(config, resolve=True))
    source, output = (Path(str(settings[name])).expanduser().resolve() for name in ("input", "output"))
    if source.is_relative_to(output) or (source.is_dir() and output.is_relative_to(source)):
        raise ValueError(f"`output` must neither lie in input nor contain it, as it could replace an original, got {config.output}")
    inference = Inference(load(settings["checkpoint"], chosen_device(settings["device"])), settings)
    found = gather(source, inference.modality)
    for line in [*found.left_out, *([MOVED_LEVELS] if inference.reading.moved_levels else [])]:
        say(line, error=True)
    outputs, masks = targets(found.items, source, output, spread=bool(settings["uncertainty"])), inference.masks(found.items, source)
    failures, skipped = dict(found.unusable), 0
    with only_writer(output, OTHER_OUTPUT):
        for folder in {target.parent for _, target in outputs} - {output}:
            clear(folder)
        for item, target in track(outputs, description="applying", transient=True):
            try:
                skipped += not inference.write(item, target, masks.get(item.name))
            except (ValueError, OSError, RuntimeError) as error:  # an error of this file; the next one may be usable
                failures[item.name] = blaming(str(error), item.paths, getattr(error, "file", None))
                say(f"{item.name}: {failures[item.name]}", error=True)
    if empty := inference.without_holes:
        say(f"{len(empty)} have a mask in `holes` that marks nothing, so nothing was filled: {'; '.join(empty[:3])}", error=True)
    if inference.clipped:
        say(clipping(inference.clipped, len(found.items)), error=True)
    total = len(found.items) + len(found.unusable)
    say(f"{total - len(failures)} of {total} are in {output}" + (f", {skipped} of them from before" if skipped else ""))
    if failures:
        say(f"{len(failures)} could not be used:", error=True)
        for name, why in failures.items():
            say(f"  {name}: {why}", error=True)
    return not failures and (not empty or len(empty) < total)


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings. Raise ValueError for a setting that no generator and no input allows."""
    for name in ("checkpoint", "input", "output"):
        if settings[name] is None:
            raise ValueError(f"`{name}` must be given: python -m medgan_pl.apply checkpoint=…/checkpoints/best.ckpt input=DIR output=DIR")
    for name, min_value in {"batch_size": 1, "seed": 0, "uncertainty": 2}.items():
        if settings[name] is not None:
            whole_number(name, settings[name], min_value)
    for name in ("resample", "coarser", "force", "anonymize"):
        if not isinstance(settings[name], bool):
            raise ValueError(f"`{name}` must be true or false, got {settings[name]}")
    if settings["coarser"] and not settings["resample"]:
        raise ValueError("`coarser` must come with resample=true, whose loss of detail it allows; without it nothing is lost, leave it out")
    if not isinstance(settings["overlap"], int | float) or not 0 <= settings["overlap"] <= 0.9:
        raise ValueError(f"`overlap` must be a share in 0 to 0.9, got {settings['overlap']}")
    return settings
