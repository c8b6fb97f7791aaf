"""Pretrained weights: files are found, never downloaded, read without running code, and loaded into a frozen network."""

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

# The entry of the weights in files of releases, and the prefixes of their names.
ENTRIES = ("state_dict", "model_state_dict", "model", "teacher", "net", "network")
PREFIXES = ("module", "backbone", "model", "encoder", "net", "network", "teacher", "resnet", "feature_extractor", "encoder_q")
UNUSED = "num_batches_tracked"  # counts of batch norm; no output depends on them and old files lack them


def find_weights(weights: str, *, name: str, published: str, setting: str = "weights") -> Path:
    """Return the path of the file `weights`, which may begin with ~ and is given to the extractor `name` by `setting`.

    Raises FileNotFoundError that names the file (`published`), where it is expected and what to type.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"the extractor {name} needs a file of weights, and there is none at {path}; it is not downloaded for you. "
            f"Published: {published}. Put it there, or give its path: extractor.{name}.{setting}=PATH"
        )
    return path


def fingerprint(path: Path) -> str:
    """Return an identifier of the weights that does not depend on the file's name: the start of its SHA-256."""
    with path.open("rb") as file:
        return "sha256 " + hashlib.file_digest(file, "sha256").hexdigest()[:32]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return name -> tensor of a .safetensors file or of one that torch.save wrote; no code in the file is run.

    Raises ValueError for a damaged file, for Python objects besides tensors and plain containers, and for no tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="Detected pickle protocol", category=UserWarning
            )  # the file is read, or an error follows
            content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, KeyError, ValueError):
        raise ValueError(
            f"{path} must contain only weights, tensors by name; it is damaged, or contains Python objects, which would run code and are "
            "not read. Download it again, or have the state dict saved by safetensors.torch.save_file"
        ) from None
    tensors = _tensors(content)
    if not tensors:
        raise ValueError(f"{path} must contain weights: names and tensors; got none")
    return tensors


def _tensors(content: Any) -> dict[str, Tensor]:
    """Return the weights in the content of a file: the content itself, or one of the usual entries."""
    if not isinstance(content, dict):
        return {}
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return tensors or next((found for entry in ENTRIES if (found := _tensors(content.get(entry)))), {})


def load_weights(network: nn.Module, path: Path, convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict) -> None:
    """Read the file into `network`, all of whose weights it must have; weights that the file has in addition, such as a classifier, are
    ignored.

    Names may have the usual prefixes, and a number may stand for the position of a layer: the release of RadImageNet writes
    backbone.0.weight for conv1.weight. `convert` gets the renamed weights, for shapes that need more than a name.
    Raises ValueError for weights that are missing or of another shape, naming the first; otherwise as `read_weights`.
    """
    wanted = network.state_dict()
    found = convert(_renamed(read_weights(path), [name for name, _ in network.named_children()], wanted))
    fits = {name: found[name] for name in wanted if name in found and found[name].shape == wanted[name].shape}
    missing = [name for name in wanted if name not in fits and not name.endswith(UNUSED)]
    if missing:
        lacks = ", ".join(f"{name} {tuple(wanted[name].shape)}" for name in missing[:3])
        holds = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(found.items())[:3])
        raise ValueError(
            f"{path} must contain every weight of the network; {len(missing)} of {len(wanted)} are missing or of another shape, "
            f"such as {lacks}; it contains {len(found)}: {holds}, … Is it the file of this architecture?"
        )
    network.load_state_dict({**wanted, **fits})


def _renamed(state: dict[str, Tensor], parts: list[str], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names of the network: the variant that fits most names, of all prefixes, with and without numbers for
    layers."""
    prefixes = {"": None}  # a dict for its order: of equal fits the first is taken, in every run
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
    """A frozen network in evaluation mode. It moves with its parent module, but its weights are in no checkpoint and reach no optimizer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for weight in network.parameters():  # a ScriptModule has no requires_grad_
            weight.requires_grad_(False)
        self._network = [network.eval()]  # in a list, so that the module is not registered

    @property
    def network(self) -> nn.Module:
        return self._network[0]

    def forward(self, images: Tensor) -> Any:
        return self.network(images)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FrozenNetwork":
        self.network._apply(fn, recurse)
        return super()._apply(fn, recurse)
