"""Safe reading of checkpoints and shared weights from other people: no code is run, and sizes are checked against the file."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from medgan_pl.core.archive import MAX_PICKLE, read_archive
from medgan_pl.core.untrusted import MAX_LETTERS, MAX_VALUES, require, shown, walk

State = TypeVar("State")


@dataclass(frozen=True)
class Stored(Generic[State]):
    """The content of a checkpoint or of shared weights, from one opening of the file.

    - `path`, `sha256`: of the file.
    - `content`: all of it, in the form of a checkpoint: `medgan_pl` and `state_dict`, in a checkpoint also the optimizers' states.
    - `state`: the part `medgan_pl`, as the reader's `parse` returned it.
    """

    path: Path
    sha256: str
    content: dict[str, Any]
    state: State

    @property
    def weights(self) -> dict[str, Any]:
        """The tensors of the module by name."""
        return self.content["state_dict"]


def read_checkpoint(path: str | Path, parse: Callable[[Any], State]) -> Stored[State]:
    """Return the content of a checkpoint. Only tensors and plain containers are unpickled, and every byte is checked against its checksum.

    `parse` validates the part `medgan_pl` and returns it in its own form. The file is opened once, so nobody can exchange it in between.
    Raise FileNotFoundError if there is no such file, ValueError if it is not a whole medgan_pl checkpoint within the bounds above.
    """
    return checked(Path(path), read_archive, parse, "a whole checkpoint written by medgan_pl.train")


def read_shared(path: str | Path, parse: Callable[[Any], State]) -> Stored[State]:
    """Return the content of a .safetensors file of `medgan_pl.export` in the form of a checkpoint.

    Arguments and errors as `read_checkpoint`.
    """
    from safetensors.torch import load

    def read(file: BinaryIO) -> dict[str, Any]:
        size = int.from_bytes(file.read(8), "little")
        require(size <= MAX_PICKLE, f"its header must have at most {MAX_PICKLE} bytes, it says {size}")
        file.seek(0)
        data = file.read()
        weights = load(data)  # checks the header before it is read here
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
        require(metadata["sha256"] == fingerprint(metadata["medgan_pl"], weights), "its checksum is not that of its weights and settings")
        return {"medgan_pl": json.loads(metadata["medgan_pl"]), "state_dict": weights}

    return checked(Path(path), read, parse, "whole weights written by medgan_pl.export")


def checked(path: Path, read: Callable[[BinaryIO], dict[str, Any]], parse: Callable[[Any], State], wanted: str) -> Stored[State]:
    """Return what `read` makes of a file, its own part validated by `parse`. Raise ValueError, in words, if either of them fails."""
    if not path.is_file():
        raise FileNotFoundError(f"`checkpoint` must be a checkpoint file, such as outputs/<date>/<time>/checkpoints/best.ckpt; got {path}")
    try:
        with path.open("rb") as file:
            content = read(file)
            check_values(content, os.fstat(file.fileno()).st_size)
            state = parse(content["medgan_pl"])
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except Exception as error:  # of any type: bytes made to harm come out of the readers as nearly every one there is
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            why = "its data.pkl does more than hold tensors and plain containers"  # torch would advise weights_only=False
        raise ValueError(f"{path} must be {wanted}; it is not: {why.splitlines()[0][:500]}") from error
    return Stored(path, digest, content, state)


def fingerprint(metadata: str, weights: dict[str, Any]) -> str:
    """Return the SHA-256 of shared weights and their metadata; safetensors keeps no checksum."""
    import torch

    digest = hashlib.sha256(metadata.encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_values(content: Any, size_bytes: int) -> None:
    """Only plain values and dense tensors that together fill no more memory than the file has bytes: with strides of 0 one number can
    claim any shape."""
    import torch

    claimed = 0
    for name, value in walk(content, MAX_VALUES):
        text = value if isinstance(value, str) else name
        require(len(text) <= MAX_LETTERS, f"it must hold texts of at most {MAX_LETTERS} letters, got {shown(text)}… with {len(text)}")
        if isinstance(value, torch.Tensor):
            claimed += value.numel() * value.element_size()
            require(value.layout is torch.strided and value.device.type == "cpu", f"the tensor {shown(name)} must be dense")
            require(claimed <= size_bytes, f"the tensor {shown(name)} of shape {tuple(value.shape)} claims more than the file holds")
        else:
            require(value is None or isinstance(value, dict | list | tuple | str | int | float), f"it holds {shown(value)}")
    require(all(isinstance(content[key], dict) for key in ("medgan_pl", "state_dict")), "`medgan_pl` and `state_dict` must be dicts")
    require(all(isinstance(weight, torch.Tensor) for weight in content["state_dict"].values()), "`state_dict` must hold tensors alone")
