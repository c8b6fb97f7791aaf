"""Weights of other people: a file is looked for and never downloaded, read without running code, matched to a network and held aside."""

import hashlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

# Where releases put the weights in a file that holds more, and what they put before every name.
ENTRIES = ("state_dict", "model_state_dict", "model", "teacher", "net", "network")
PREFIXES = ("module", "backbone", "model", "encoder", "net", "network", "teacher", "resnet", "feature_extractor", "encoder_q")
UNUSED = "num_batches_tracked"  # counts of batch norm, which no output depends on and old files lack


def find_weights(weights: str, *, name: str, published: str, setting: str = "weights") -> Path:
    """The file at `weights`, a path that may begin with ~, which the extractor `name` is given by `setting`.

    Raises FileNotFoundError that says which file is meant (`published`), where it is expected and what to type.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"the extractor {name} needs a file of weights, and there is none at {path}; it is not downloaded for you. "
            f"Published: {published}. Put it there, or say where it lies: extractor.{name}.{setting}=PATH"
        )
    return path


def fingerprint(path: Path) -> str:
    """Return an identifier of these weights, whatever the file is called: the start of its SHA-256."""
    with path.open("rb") as file:
        return "sha256 " + hashlib.file_digest(file, "sha256").hexdigest()[:32]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Name -> tensor, of a .safetensors file or of what torch.save wrote; nothing in the file is run.

    Raises ValueError for a file that is damaged, that holds Python objects besides tensors and plain containers, or no tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol", category=UserWarning)  # it is read, or an error follows
            content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, KeyError, ValueError):
        raise ValueError(
            f"{path} must hold weights alone, tensors by name; it is damaged, or holds Python objects, which would run code and are not "
            "read. Download it anew, or have the state dict saved by safetensors.torch.save_file"
        ) from None
    tensors = _tensors(content)
    if not tensors:
        raise ValueError(f"{path} must hold weights: names and tensors; got none")
    return tensors


def _tensors(content: Any) -> dict[str, Tensor]:
    """The table of weights in what was read: itself, or under one of the usual entries."""
    if not isinstance(content, dict):
        return {}
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return tensors or next((found for entry in ENTRIES if (found := _tensors(content.get(entry)))), {})


def load_weights(network: nn.Module, path: Path, convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict) -> None:
    """Reads the file into `network`, all of whose weights it must have; what it has more, such as a classifier, is left.

    Names may stand behind the usual prefixes, and a number may stand for the place of the part: the release of RadImageNet writes
    backbone.0.weight for conv1.weight. `convert` is given the renamed weights, for shapes that need more than a name.
    Raises ValueError for weights that are missing or of another shape, naming the first, besides what `read_weights` raises.
    """
    wanted = network.state_dict()
    found = convert(_renamed(read_weights(path), [name for name, _ in network.named_children()], wanted))
    fits = {name: found[name] for name in wanted if name in found and found[name].shape == wanted[name].shape}
    missing = [name for name in wanted if name not in fits and not name.endswith(UNUSED)]
    if missing:
        lacks = ", ".join(f"{name} {tuple(wanted[name].shape)}" for name in missing[:3])
        holds = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(found.items())[:3])
        raise ValueError(
            f"{path} must hold every weight of the network; {len(missing)} of {len(wanted)} are missing or of another shape, "
            f"such as {lacks}; it holds {len(found)}: {holds}, … Is it the file of this architecture?"
        )
    network.load_state_dict({**wanted, **fits})


def _renamed(state: dict[str, Tensor], parts: list[str], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights under the names of the network: of all prefixes, and with and without numbers for parts, that which fits most names."""
    prefixes = {"": None}  # a dict for its order: of equals the first wins, on every run
    for name in state:
        prefix = ""
        for part in name.split(".")[:-1]:
            if part not in PREFIXES:
                break
            prefix += f"{part}."
            prefixes[prefix] = None
    tables = []
    for prefix in prefixes:
        table = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        tables += [table, {_by_place(name, parts): value for name, value in table.items()}]
    return max(tables, key=lambda table: len(table.keys() & wanted.keys()))


def _by_place(name: str, parts: list[str]) -> str:
    first, _, rest = name.partition(".")
    return f"{parts[int(first)]}.{rest}" if first.isdecimal() and int(first) < len(parts) else name


class FrozenNetwork(nn.Module):
    """A frozen network that moves with the module it is in, and is otherwise no part of it: no checkpoint holds its weights, no optimizer
    finds them, and it stays in evaluation mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for weight in network.parameters():  # a ScriptModule has no requires_grad_
            weight.requires_grad_(False)
        self._held = [network.eval()]  # a list: what it holds is not registered

    @property
    def network(self) -> nn.Module:
        return self._held[0]

    def forward(self, images: Tensor) -> Any:
        return self.network(images)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FrozenNetwork":
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)
