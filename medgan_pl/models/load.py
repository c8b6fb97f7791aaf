"""Load a checkpoint or shared weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_pl.core.allowed import check_target, check_targets
from medgan_pl.core.console import root_cause
from medgan_pl.core.untrusted import MAX_NODES, require, shown, walk

if TYPE_CHECKING:
    from torch import Tensor

    from medgan_pl.models.module import AdversarialModule
    from medgan_pl.models.networks.stylegan2 import StyleGAN2Generator


@dataclass(frozen=True)
class Origin:
    """The file that a module was loaded from.

    - `sha256`: of the file. `fingerprint`: of the data it was trained on, and `wandb`: the run's id there, as a checkpoint records them.
    """

    sha256: str
    fingerprint: str | None = None
    wandb: str | None = None


def load(path: str | Path, device: str = "cpu") -> "AdversarialModule":
    """Return the module of a checkpoint or of shared weights (.safetensors), in evaluation mode.

    `module.generate(batch)` draws from the EMA generator. `module.origin` says which file it was; the file is read once.
    The metrics and the auxiliary losses (`extras`) are left out, because only training needs them. From weights that were shared without
    the players, the generator is the EMA, and there is no discriminator. Only the project's own classes and torch's optimizers are built,
    and nothing larger than the weights in the file.
    Raise errors as `read_checkpoint`, and ValueError if the stored settings cannot be built or belong to other weights.
    """
    import torch

    from medgan_pl.models.state import read_stored

    stored = read_stored(path)
    state = stored.state
    weights = {name: weight for name, weight in stored.weights.items() if not name.startswith(("metrics.", "game.extras."))}
    whole = any(name.startswith("networks.") for name in weights)
    try:
        check_targets(without_terms(state.config["module"]))
        check_sizes(state.config)
        if not whole:
            own = f"networks.{generator_of(state.config)}."
            weights |= {name.replace("ema.network.", own, 1): weight for name, weight in weights.items()}
        # First without memory: a width of a billion is a shape there, and a shape must be that of a weight in the file.
        with torch.device("meta"), at_most(4 * len(weights) + 1000):
            wanted = build(state.config, whole).state_dict()
            # What a game keeps, such as a running mean of its penalty, serves training alone: shared weights need not have it.
            check_shapes({name: weight for name, weight in wanted.items() if whole or not name.startswith("game.")}, weights)
        module = build(state.config, whole)
        module.load_state_dict(weights, strict=whole)
    except Exception as error:  # of any type: settings made to harm fail wherever they are used
        raise ValueError(f"the weights in {path} do not fit the settings stored with them: {str(root_cause(error))[:1000]}") from error
    recorded = {} if state.progress is None else {"fingerprint": state.progress.fingerprint, "wandb": state.progress.wandb}
    module.origin = Origin(stored.sha256, **recorded)
    module.config = state.config
    module.take_facts(state)
    return module.to(device).eval()


def build(config: dict[str, Any], whole: bool) -> "AdversarialModule":
    """Return the module of a checked configuration, without its metrics, and with one plain term in place of its extras.

    Unless `whole`, the networks of the other players, the augmentation and the regularizers are left out too.
    """
    from torch import nn

    from medgan_pl.core.command import instantiate
    from medgan_pl.core.keys import Purpose, key_randomness
    from medgan_pl.models.losses.image import L1

    settings = without_terms(config["module"])
    if "extras" in settings["game"]:
        settings["game"]["extras"] = {"left_out": L1(weight=1.0)}
    if not whole:
        game = settings["game"] | {"augment": None, "regularizers": {}} | ({"pool": 0} if "pool" in settings["game"] else {})
        kept = generator_of(config)
        players = {name: own if name == kept else own | {"network": nn.Identity()} for name, own in settings["players"].items()}
        settings |= {"players": players, "share": None, "game": game}
    key_randomness(config["seed"], 0, 0, Purpose.INIT)
    return instantiate(settings)


def generator_of(config: dict[str, Any]) -> str:
    """Return the name of the player that generates, of a checked configuration."""
    return check_target(config["module"]["game"]["_target_"]).generator


def without_terms(module: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a module without its metrics and extras, which only training needs.

    They may name files of the machine it was trained on, and an older run may name classes that do not exist now.
    """
    game = module["game"]
    return module | {"metrics": {}, "game": game | ({"extras": {}} if "extras" in game else {})}


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Raise ValueError inside as soon as modules have more than `count` parameters, so that a file cannot ask for an endless loop."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    given = 0

    def note(*_: Any) -> None:
        nonlocal given
        given += 1
        require(given <= count, f"the settings ask for more than {count} weights, many times what the file holds")

    handle = register_module_parameter_registration_hook(note)
    try:
        yield
    finally:
        handle.remove()


def check_sizes(config: dict[str, Any]) -> None:
    """Raise ValueError unless each `size` that a part is built with is that of the images: not every game has weights of its size."""
    size = config["data"]["size"]
    sides = [size] if isinstance(size, int) else size
    for name, value in walk(without_terms(config["module"]), MAX_NODES):
        if name == "size" and isinstance(value, int):  # or one of a list
            require(value in sides, f"`size` must be that of the images, {sides}, got {shown(value)}")


def check_shapes(wanted: dict[str, "Tensor"], found: dict[str, "Tensor"]) -> None:
    """Raise ValueError unless `found` are the weights that are `wanted`, by name, shape and kind of number."""
    odd = sorted(wanted.keys() ^ found.keys())
    require(not odd, f"{len(odd)} weights are in one and not in the other, such as {', '.join(shown(name) for name in odd[:3])}")
    for name, weight in found.items():
        same = weight.shape == wanted[name].shape and weight.is_floating_point() == wanted[name].is_floating_point()
        require(same, f"{shown(name)} must be {tuple(wanted[name].shape)}, got {tuple(weight.shape)} of {weight.dtype}")


def style_based(module: "AdversarialModule", what: str) -> "StyleGAN2Generator":
    """Return the EMA generator of a model with styles. Raise ValueError, which says what needs it, for another model."""
    from medgan_pl.models.networks.stylegan2 import StyleGAN2Generator

    network = module.ema.network
    if not isinstance(network, StyleGAN2Generator):
        raise ValueError(f"{what} needs a generator with styles, model=stylegan2; {type(network).__name__} has none")
    return network
