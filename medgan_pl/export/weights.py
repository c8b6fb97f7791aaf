"""Write weights for sharing: `python -m medgan_pl.export checkpoint=outputs/…/checkpoints/best.ckpt`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from medgan_pl.core.command import quiet_libraries
from medgan_pl.core.console import say
from medgan_pl.core.files import atomically
from medgan_pl.core.lock import OTHER_OUTPUT, only_writer
from medgan_pl.core.safe_load import fingerprint
from medgan_pl.core.settings import for_weights
from medgan_pl.models.load import load

if TYPE_CHECKING:
    from omegaconf import DictConfig


def run(config: "DictConfig") -> None:
    """Export the checkpoint that the configuration names."""
    quiet_libraries()
    if config.checkpoint is None:
        raise ValueError("`checkpoint` must be given: python -m medgan_pl.export checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt")
    checkpoint = Path(str(config.checkpoint))
    output = checkpoint.with_suffix(".safetensors") if config.output is None else Path(str(config.output))
    export(checkpoint, output, whole=bool(config.whole))
    say(f"{'all' if config.whole else 'the EMA generator'} of {checkpoint}, {output.stat().st_size:,} bytes, is in {output}")


def export(checkpoint: Path, output: Path, *, whole: bool = False) -> None:
    """Write the EMA generator of a checkpoint, with `whole` both players too, to a .safetensors file, atomically.

    Its metadata has `medgan_pl`, JSON of: format, config (see `for_weights`), classes, covariates, inverse, images shown, the SHA-256 of
    the checkpoint; and `sha256`, see `fingerprint`. Raises ValueError for another suffix, otherwise as `load`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    from medgan_pl.models.state import RunState

    if output.suffix != ".safetensors" or checkpoint.suffix == ".safetensors":
        raise ValueError(f"`checkpoint` must be a checkpoint and `output` a .safetensors file, got {checkpoint} and {output}")
    module = load(checkpoint)
    weights = {
        # safetensors needs each tensor in memory of its own, in the order of its axes. `load` restores channels_last.
        name: weight.contiguous().clone()
        for name, weight in module.state_dict().items()
        if whole or name.startswith("ema.network.")
    }
    state = RunState(
        config=for_weights(module.config),
        classes=module.classes,
        images=module.images,
        inverse=module.inverse,
        inverses=module.inverses,
        covariates=module.covariates,
        checkpoint_sha256=module.origin.sha256,
    )
    metadata = json.dumps(state.plain(), sort_keys=True)
    with only_writer(output.parent, OTHER_OUTPUT, name=f".{output.name}.lock"), atomically(output) as temporary:
        try:
            save_file(weights, temporary, {"format": "pt", "medgan_pl": metadata, "sha256": fingerprint(metadata, weights)})
        except SafetensorError as error:  # of the disk: the weights are tensors of a checkpoint that was read
            raise OSError(f"{output} could not be written: {error}; make room, or choose another output=FILE") from error
