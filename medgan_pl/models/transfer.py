"""Fine-tuning: a new model takes the layers that fit from a trained model's file. Size, width and classes may differ."""

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
    """Copy the weights of the file that `init_from` names into the module, and its SHA-256 into `config` (`init_from_sha256`).

    Return sentences that say what was taken, see `transfer`. `classes`: the names of the classes of the data.
    Raise FileNotFoundError if there is no such file; ValueError as `read_checkpoint` and `transfer`, and if the file has changed since the
    run began.
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
    before, now = condition_of(source.state.config["model"]), condition_of(config["model"])
    lines = [f"from {path}: {line}" for line in transfer(source.weights, module, same_condition=before == now)]
    there, here = source.state.classes, list(classes)
    if before != now:
        lines.append(
            f"its model was conditioned on {before}, this one on {now}; the layers that take in the condition, or name it, begin anew"
        )
    elif config["model"]["classes"] and there != here:
        lines.append(f"its classes were {', '.join(map(shown, there)) or 'none'} and are {', '.join(here)} here; they are taken by number")
    if before == now and config["model"].get("covariates"):
        lines.append("its covariates are standardized by this data's mean and spread from here on")
    return lines


def condition_of(model: Mapping[str, Any]) -> str:
    """Return the condition of a model, in words: 2 classes, age, sex."""
    names = [shown(name).strip("'") for name in model.get("covariates", [])]  # a checkpoint from before them has none
    return ", ".join([f"{model['classes']} classes"] * bool(model["classes"]) + names) or "nothing"


def transfer(weights: Mapping[str, Tensor], module: nn.Module, *, same_condition: bool = True) -> list[str]:
    """Copy into each network of an AdversarialModule the layers of another one's state_dict that fit. Return sentences that say which.

    - A layer fits if all its weights and running statistics are there, with the same names and shapes. A layer that does not fit keeps
      all of its first weights. Without `same_condition`, so does a layer that takes in the condition or names it: it would take a class
      for an age.
    - Each player takes its own layers by name, and the EMA takes those of the EMA. From weights that were shared without the players, the
      generator and its EMA take those of the EMA, and the other players begin anew.
    - A generator of another size has more or fewer blocks at its beginning. If more layers fit so, its blocks are counted from the image
      back.

    Raise ValueError if no layer of the generator with a weight of two axes or more fits, and for NaN or infinity.
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
    """Return the layers that take in the condition (Embedding has no other use), or that output it."""
    return [
        f"{name}.linear" if isinstance(layer, AuxiliaryHead) else name
        for name, layer in network.named_modules()
        if isinstance(layer, Embedding | AuxiliaryHead)
    ]


def fitting(
    wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], anew: Collection[str] = ()
) -> tuple[dict[str, dict[str, Tensor]], dict[str, str]]:
    """Return the layers of `wanted` that `found` has whole (layer -> name -> weight), and the others (layer -> reason).

    The layers in `anew` are among the others.
    """
    taken: dict[str, dict[str, Tensor]] = {}
    left: dict[str, str] = {}
    for layer in dict.fromkeys(layer_of(name) for name in wanted):
        names = [name for name in wanted if layer_of(name) == layer]
        reasons = [why for name in names if (why := mismatch(wanted[name], found.get(name)))]
        if layer in anew and not reasons:
            reasons = ["its condition is another one here"]
        if reasons:
            left[layer] = reasons[0]
        else:
            taken[layer] = {name: found[name] for name in names}
    return taken, left


NUMBERED = re.compile(r"((?:[^.]+\.)*?)(\d+)(\..+)")  # list, number, the rest: blocks.2.conv1.weight


def counted_back(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `found`, renumbered so that each numbered list ends where that of `wanted` does."""
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
    """Return why a weight cannot take the place of another; "" if it can."""
    if there is None:
        return "is not in the file"
    if here.shape != there.shape:
        return f"shape {tuple(here.shape)} here, {tuple(there.shape)} there"
    return "" if here.is_floating_point() == there.is_floating_point() else "of another kind of number"


def layer_of(name: str) -> str:
    """Return the layer that a weight belongs to, also for a weight under spectral norm."""
    return name.split(".parametrizations.")[0] if ".parametrizations." in name else name.rpartition(".")[0]


def listed(left: Mapping[str, str]) -> str:
    """Return a sentence on the layers that were not taken, grouped by reason."""
    reasons: dict[str, list[str]] = {}
    for layer, why in left.items():
        reasons.setdefault(why, []).append(layer)
    return "; not taken: " + "; ".join(f"{', '.join(layers)} ({why})" for why, layers in reasons.items()) if left else ""
