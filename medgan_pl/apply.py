"""A trained image-to-image generator on whole images: `python -m medgan_pl.apply checkpoint=…/best.ckpt input=DIR output=DIR`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.build import quiet_libraries
from medgan_pl.console import configuration_folder, describe_keys, one_message
from medgan_pl.sample import chosen_device, load
from medgan_pl.train import launch

if TYPE_CHECKING:
    from omegaconf import DictConfig

MANUAL = """\
medgan_pl.apply: a trained image-to-image generator on whole films and volumes

  python -m medgan_pl.apply checkpoint=PATH input=DIR|FILE output=DIR [key=value …]

Examples
  python -m medgan_pl.apply checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt input=/data/ct output=/data/ct_denoised
      every volume below input: NIfTI comes back as NIfTI in its own orientation, a DICOM series as a series of the same study
  python -m medgan_pl.apply checkpoint=… input=film.png output=better
  python -m medgan_pl.apply checkpoint=… input=/data/ct output=/data/out resample=true
      volumes of another spacing than that of training: brought there, and the result back to the grid each came on
  python -m medgan_pl.apply checkpoint=… input=/data/films output=/data/filled holes=/data/masks
      for a generator trained with data.degrade=inpainting: what is above 0 in the mask of the same name is filled
  python -m medgan_pl.apply checkpoint=… input=/data/mr output=/data/out from=mr to=ct
      of a generator between domains without pairs (model=cycle_gan, cut, star_gan)
  python -m medgan_pl.apply checkpoint=… input=/data/t1 output=/data/out from=t1 to=t2 reference=t2.nii.gz
      in the style of an image of the domain they are brought to (star_gan)
  python -m medgan_pl.apply checkpoint=… input=/data/ct output=/data/out uncertainty=20
      for a generator trained with model.generator.dropout=0.2, or one with styles (star_gan): the mean of 20 passes, and where they differ

What comes out is in native units (HU, grey levels). The same task's image is in the levels of its own input, and what lay beyond the
intensity window comes back at its end; another modality is in the training images' typical ones; a segmentation is a label map, 0
background and k the k-th of data.beside.mask.structures. Super-resolution makes a finer grid of the same field,
and so does a generator of thin slices from thick ones (data.degrade=thick_slices_x4) of thick slices.
PNG, JPEG and TIFF come back as PNG of the same depth (floats as TIFF); NRRD and MetaImage as NIfTI; DICOM as DICOM, DERIVED and for
RESEARCH, but its label maps and standard deviations as NIfTI, or PNG and TIFF. A .json beside each says what made it. What is done already,
by the same checkpoint and settings, is passed over; a file that cannot be used is told of and does not end the run: exit code 1 in the end.

Keys and their defaults
{keys}
"""

FOGGED = (
    "note: this generator learnt with levels taken from each clean image; here they are taken from the image in fog, which moves them, and "
    "what comes out may have another contrast; learn with fixed levels, intensity@data.intensity=full_range or a CT window"
)


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(MANUAL.format(keys=describe_keys(configuration_folder() / "apply.yaml")))
        return
    with one_message(None):
        launch(run, "apply")


def run(config: "DictConfig") -> None:
    with one_message(None):
        if not apply(config):
            raise SystemExit(1)


def apply(config: "DictConfig") -> bool:
    """Writes what the generator makes of each input; whether all went well comes back."""
    quiet_libraries()
    from omegaconf import OmegaConf
    from rich.progress import track

    from medgan_pl.applied import Applied
    from medgan_pl.applied.inputs import gather, targets

    settings = checked(OmegaConf.to_container(config, resolve=True))
    source, output = (Path(str(settings[name])).expanduser().resolve() for name in ("input", "output"))
    if source.is_relative_to(output) or (source.is_dir() and output.is_relative_to(source)):
        raise ValueError(f"`output` must neither lie in input nor hold it, as it could replace an original, got {config.output}")
    applied = Applied(load(settings["checkpoint"], chosen_device(settings["device"])), settings)
    found = gather(source, applied.modality)
    for line in [*found.left_out, *([FOGGED] if applied.reading.fogged else [])]:
        print(line, file=sys.stderr)
    wanted, masks = targets(found.items, source, output, spread=bool(settings["uncertainty"])), applied.masks(found.items, source)
    failures, skipped = dict(found.unusable), 0
    for item, target in track(wanted, description="applying", transient=True):
        try:
            skipped += not applied.write(item, target, masks.get(item.name))
        except (ValueError, OSError, RuntimeError) as error:  # of this file; the next may go well
            failures[item.name] = str(error)
            print(f"{item.name}: {error}", file=sys.stderr)
    total = len(found.items) + len(found.unusable)
    print(f"{total - len(failures)} of {total} are in {output}" + (f", {skipped} of them from before" if skipped else ""))
    if failures:
        print(f"{len(failures)} could not be used:", file=sys.stderr)
        for name, why in failures.items():
            print(f"  {name}: {why}", file=sys.stderr)
    return not failures


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings; ValueError for what no generator and no input could be applied with."""
    for name in ("checkpoint", "input", "output"):
        if settings[name] is None:
            raise ValueError(f"`{name}` must be given: python -m medgan_pl.apply checkpoint=…/checkpoints/best.ckpt input=DIR output=DIR")
    for name, least in {"batch_size": 1, "seed": 0, "uncertainty": 2}.items():
        value = settings[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"`{name}` must be a whole number of at least {least}, got {value}")
    for name in ("resample", "force"):
        if not isinstance(settings[name], bool):
            raise ValueError(f"`{name}` must be true or false, got {settings[name]}")
    if not isinstance(settings["overlap"], int | float) or not 0 <= settings["overlap"] <= 0.9:
        raise ValueError(f"`overlap` must be a share in 0 to 0.9, got {settings['overlap']}")
    return settings


if __name__ == "__main__":
    main()
