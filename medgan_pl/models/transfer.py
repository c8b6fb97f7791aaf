"""Fine-tuning: what a trained model's file gives to a new one whose size, width or classes may differ, layer by layer."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from medgan_pl.core.untrusted import require, shown
from medgan_pl.models.networks.layers import AuxiliaryHead, Embedding
from medgan_pl.models.state import read_stored

EMA = "ema.network."


def begin_from(config: dict[str, Any], module: nn.Module, classes: Sequence[str]) -> list[str]:
    """Gives the module the weights of the file that `init_from` names, and `config` its SHA-256 (`init_from_sha256`); what was taken comes
    back in sentences, see `transfer`. `classes`: names of those of the data.

    FileNotFoundError if there is no such file, ValueError as `read_checkpoint` and `transfer`, and if the file is not the one it was when
    the run began.
    """
    path = Path(str(config["init_from"]))
    if not path.is_file():
        raise FileNotFoundError(
            "`init_from` must be a checkpoint, such as outputs/<date>/<time>/checkpoints/best.ckpt, or weights shared as .safetensors; "
            f"got {path}"
        )
    source = read_stored(path)
    if config.setdefault("init_from_sha256", source.sha256) != source.sha256:
        raise ValueError(f"`init_from` must be the file it was when the run began; {path} has changed since")
    before, now = told(source.state.config["model"]), told(config["model"])
    lines = [f"from {path}: {line}" for line in transfer(source.weights, module, same_condition=before == now)]
    there, here = source.state.classes, list(classes)
    if before != now:
        lines.append(f"its model was told {before} and is told {now} here; what takes that in, or names it, begins anew")
    elif config["model"]["classes"] and there != here:
        lines.append(f"its classes were {', '.join(map(shown, there)) or 'none'} and are {', '.join(here)} here; they are taken by number")
    if before == now and config["model"].get("covariates"):
        lines.append("its covariates are standardized by this data's mean and spread from here on")
    return lines


def told(model: Mapping[str, Any]) -> str:
    """Return the condition of a model, in words: 2 classes, age, sex."""
    names = [shown(name).strip("'") for name in model.get("covariates", [])]  # a checkpoint from before them has none
    return ", ".join([f"{model['classes']} classes"] * bool(model["classes"]) + names) or "nothing"


def transfer(weights: Mapping[str, Tensor], module: nn.Module, *, same_condition: bool = True) -> list[str]:
    """Copies into each network of an AdversarialModule the layers of another one's state_dict that fit it; what was taken and what was not
    comes back in sentences.

    A layer fits where all its weights and running statistics are there under the same names and in the same shapes; one that does
    not keeps its first weights whole, and without `same_condition` so does one that takes in the condition or names it: of a class it
    would make an age. Each player takes its own by name, and the EMA that of the EMA. Weights shared without the players give the
    generator and its EMA from the EMA, and the other players begin anew. Of another size a generator has more or fewer blocks at its
    beginning: where more fits so, its blocks are counted from the image back.
    ValueError where not one layer of the generator with a weight of two axes or more fits, and for NaN or infinity.
    """
    generator, whole = module.game.generator, any(name.startswith("networks.") for name in weights)
    prefixes = {name: f"networks.{name}." for name in module.networks} | {"ema": EMA}
    lines = []
    for player, prefix in prefixes.items():
        generates = player in (generator, "ema")
        network = module.get_submodule(prefix.removesuffix("."))
        from_where = prefix if whole or not generates else EMA
        found = {name.removeprefix(from_where): weight for name, weight in weights.items() if name.startswith(from_where)}
        if not generates and not found:
            lines.append(f"{player}: begins anew; the file does not have it")
            continue
        wanted, how = network.state_dict(), ""
        anew = () if same_condition else of_condition(network)
        taken, left = fitting(wanted, found, anew)
        if generates:
            others = fitting(wanted, counted_back(wanted, found), anew)
            if len(others[0]) > len(taken):
                (taken, left), how = others, ", counted from the image back"
        if player == generator:
            learned = [name for layer in taken.values() for name, weight in layer.items() if weight.ndim > 1]
            require(
                bool(learned), f"no layer of the generator in `init_from` fits this one: was it of another model or width?{listed(left)}"
            )
        for layer in taken.values():
            for name, weight in layer.items():
                require(bool(weight.isfinite().all()), f"the weights in `init_from` must be finite; {player}.{name} holds NaN or infinity")
        network.load_state_dict({name: weight for layer in taken.values() for name, weight in layer.items()}, strict=False)
        lines.append(f"{player}: {len(taken)} of {len(taken) + len(left)} layers taken{how}{listed(left)}")
    return lines


def of_condition(network: nn.Module) -> list[str]:
    """The layers that take in the condition (Embedding serves nothing else), or whose output it is."""
    return [
        f"{name}.linear" if isinstance(layer, AuxiliaryHead) else name
        for name, layer in network.named_modules()
        if isinstance(layer, Embedding | AuxiliaryHead)
    ]


def fitting(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], anew: Collection[str] = ()
) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """The layers of `wanted` that `found` has whole, but for those that are to begin `anew`: layer -> name -> weight; and the others:
    layer -> why not."""
    taken: dict[str, dict[str, Tensor]] = {}
    left: dict[str, str] = {}
    for layer in dict.fromkeys(layer_of(name) for name in wanted):
        names = [name for name in wanted if layer_of(name) == layer]
        reasons = [why for name in names if (why := mismatch(wanted[name], found.get(name)))]
        if layer in anew and not reasons:
            reasons = ["it is told something else here"]
        if reasons:
            left[layer] = reasons[0]
        else:
            taken[layer] = {name: found[name] for name in names}
    return taken, left


NUMBERED = re.compile(r"((?:[^.]+\.)*?)(\d+)(\..+)")  # list, number, the rest: blocks.2.conv1.weight


def counted_back(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`found` renumbered so that each numbered list ends where that of `wanted` does."""
    ends: list[dict[str, int]] = []
    for names in (wanted, found):
        matches = [match for name in names if (match := NUMBERED.fullmatch(name))]
        ends.append({match[1]: max(int(each[2]) for each in matches if each[1] == match[1]) for match in matches})
    renumbered = {}
    for name, weight in found.items():
        match = NUMBERED.fullmatch(name)
        if match and match[1] in ends[0]:
            name = f"{match[1]}{int(match[2]) + ends[0][match[1]] - ends[1][match[1]]}{match[3]}"
        renumbered[name] = weight
    return renumbered


def mismatch(here: Tensor, there: Tensor | None) -> str:
    """Why a weight cannot take the place of another, "" where it can."""
    if there is None:
        return "is not in the file"
    if here.shape != there.shape:
        return f"shape {tuple(here.shape)} here, {tuple(there.shape)} there"
    return "" if here.is_floating_point() == there.is_floating_point() else "of another kind of number"


def layer_of(name: str) -> str:
    """The layer a weight belongs to; one under spectral norm is the layer's too."""
    return name.split(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]


def listed(left: Mapping[str, str]) -> str:
    """The layers that were not taken, those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for layer, why in left.items():
        reasons.setdefault(why, []).append(layer)
    return "; not taken: " + "; ".join(f"{', '.join(layers)} ({why})" for why, layers in reasons.items()) if left else ""
