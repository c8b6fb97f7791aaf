"""Safe loading of files from other people: no code is run, sizes are checked against the file, only our own classes are built."""

import hashlib
import json
import math
import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

# Bounds on what a file may ask for, far above what a run of ours writes (whose pickle has some 100 KiB, whose settings some 300 nodes).
MAX_PICKLE = 4 * 2**20  # bytes that say which tensors there are, some 160 for each; to walk through as many takes 5 seconds
MAX_VALUES = 200_000  # of a whole checkpoint: containers, tensors, numbers and texts
MAX_NODES, MAX_DEPTH, MAX_LETTERS = 5_000, 32, 4096  # of settings
MAX_UNITS = 2**20  # channels, classes, pixels a side, steps: any number that something is built by
MAX_PIXELS = 2**28  # of an image; 1 GiB in float32
COUNTED = re.compile(r"(^|_)(images|every|seed)$")  # names of the numbers that nothing is built by
FORMAT = 2  # of checkpoints and shared weights; 1 was before players had names

# All that the pickle of a checkpoint of ours names. What torch admits under weights_only is more, a bytearray of any length among it.
KNOWN = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
)


def require(condition: bool, why: str) -> None:
    if not condition:
        raise ValueError(why)


def shown(value: Any) -> str:
    """A value out of a hostile file, for a message: a short one as it stands, of a long one the beginning, of a container the kind."""
    if isinstance(value, str):
        return repr(value[:100])
    short = value is None or isinstance(value, float) or (isinstance(value, int) and value.bit_length() < 200)
    return str(value) if short else f"a {type(value).__name__}"


# Files ------------------------------------------------------------------------------------------------------------------------------


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint. Only tensors and plain containers are unpickled, and every byte is checked against its checksum.

    FileNotFoundError if there is no such file, ValueError if it is not a whole medgan_pl checkpoint within the bounds above.
    """
    return read_checkpoint_and_digest(path)[0]


def read_checkpoint_and_digest(path: str | Path) -> tuple[dict[str, Any], str]:
    """Return what a checkpoint holds and the SHA-256 of the file, which is opened once: nobody can exchange it in between.

    Errors as `read_checkpoint`.
    """
    import torch

    def read(file: BinaryIO) -> dict[str, Any]:
        check_archive(file)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)

    return checked(Path(path), read, "a whole checkpoint written by medgan_pl.train")


def read_shared(path: str | Path) -> dict[str, Any]:
    """Return the content of a .safetensors file of `medgan_pl.export` in the form of a checkpoint: `medgan_pl` and `state_dict`.

    Errors as `read_checkpoint`.
    """
    return read_shared_and_digest(path)[0]


def read_shared_and_digest(path: str | Path) -> tuple[dict[str, Any], str]:
    """Return what a .safetensors file holds, in the form of a checkpoint, and the SHA-256 of the file. Errors as `read_checkpoint`."""
    from safetensors import safe_open

    def read(file: BinaryIO) -> dict[str, Any]:
        header = int.from_bytes(file.read(8), "little")
        require(header <= MAX_PICKLE, f"its header must have at most {MAX_PICKLE} bytes, it says {header}")
        with safe_open(path, "pt") as content:  # which opens the file by itself
            told = content.metadata() or {}
            weights = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - it is no dict
        require(told["sha256"] == fingerprint(told["medgan_pl"], weights), "its checksum is not that of its weights and settings")
        state = json.loads(told["medgan_pl"])
        return {"medgan_pl": state, "state_dict": weights}

    return checked(Path(path), read, "whole weights written by medgan_pl.export")


def checked(path: Path, read: Callable[[BinaryIO], dict[str, Any]], wanted: str) -> tuple[dict[str, Any], str]:
    """Return what `read` makes of a file, validated for `load` and for resuming a run, and the file's SHA-256."""
    if not path.is_file():
        raise FileNotFoundError(f"`checkpoint` must be a checkpoint file, such as outputs/<date>/<time>/checkpoints/best.ckpt; got {path}")
    try:
        with path.open("rb") as file:
            content = read(file)
            check_values(content, os.fstat(file.fileno()).st_size)
            check_state(content["medgan_pl"])
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except Exception as error:  # of any type: bytes made to harm come out of the readers as nearly every one there is
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            why = "its data.pkl does more than hold tensors and plain containers"  # torch would advise weights_only=False
        raise ValueError(f"{path} must be {wanted}; it is not: {why.splitlines()[0][:500]}") from error
    return content, digest


def fingerprint(told: str, weights: dict[str, Any]) -> str:
    """The SHA-256 of shared weights and of what is told of them: safetensors keeps no checksum."""
    import torch

    digest = hashlib.sha256(told.encode())
    for name, weight in sorted(weights.items()):
        digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        digest.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def check_archive(file: BinaryIO) -> None:
    """Holds the zip of a checkpoint to its checksums, which torch's reader passes over, and its pickle to names that we know."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        # Two readers must not see two files: torch's takes names without regard to case. Nothing packed can swell, nothing overlaps.
        require(len({member.filename.lower() for member in members}) == len(members), "two of its parts have one name")
        require(all(member.compress_type == zipfile.ZIP_STORED for member in members), "its parts must be stored, not compressed")
        require(
            sum(member.file_size for member in members) <= os.fstat(file.fileno()).st_size, "its parts say they are larger than the file"
        )
        for member in members:
            with archive.open(member) as content:
                while content.read(2**20):
                    pass  # the checksum is held at the end
        pickles = [member for member in members if member.filename.lower().endswith("/data.pkl")]
        require(len(pickles) == 1, f"it must have one data.pkl, got {len(pickles)}")
        require(pickles[0].file_size <= MAX_PICKLE, f"its data.pkl must have at most {MAX_PICKLE} bytes, got {pickles[0].file_size}")
        for code, argument, _ in pickletools.genops(archive.read(pickles[0])):
            if code.name == "GLOBAL" and not KNOWN.fullmatch(argument):
                raise ValueError(f"it names {shown(argument)}, and a checkpoint holds nothing but tensors and plain containers")


def walk(node: Any, max_values: int) -> Iterator[tuple[str, Any]]:
    """Yield `node` and each value below it, with the name of its key (of the list's key, for a value in a list).

    Raise ValueError past `max_values` values or MAX_DEPTH levels. A value that is referred to many times is walked as often: that is how a
    short file becomes a huge object.
    """
    seen, ahead = 0, [("", node, 0)]
    while ahead:
        name, value, depth = ahead.pop()
        yield name, value
        seen += 1
        if isinstance(value, dict | list | tuple):
            require(seen + len(ahead) + len(value) <= max_values, f"it must hold at most {max_values} values")
            require(depth < MAX_DEPTH or not value, f"it must be at most {MAX_DEPTH} levels deep")
            below = value.items() if isinstance(value, dict) else ((name, child) for child in value)
            ahead += [(key if isinstance(key, str) else "", child, depth + 1) for key, child in below]


def check_values(content: Any, size_bytes: int) -> None:
    """Only plain values and dense tensors that together fill no more memory than the file has bytes: with strides of 0 one number can
    claim any shape."""
    import torch

    claimed = 0
    for name, value in walk(content, MAX_VALUES):
        if isinstance(value, torch.Tensor):
            claimed += value.numel() * value.element_size()
            require(value.layout is torch.strided and value.device.type == "cpu", f"the tensor {shown(name)} must be dense")
            require(claimed <= size_bytes, f"the tensor {shown(name)} of shape {tuple(value.shape)} claims more than the file holds")
        else:
            require(value is None or isinstance(value, dict | list | tuple | str | int | float), f"it holds {shown(value)}")
    require(all(isinstance(content[key], dict) for key in ("medgan_pl", "state_dict")), "`medgan_pl` and `state_dict` must be dicts")
    require(all(isinstance(weight, torch.Tensor) for weight in content["state_dict"].values()), "`state_dict` must hold tensors alone")


def check_state(state: dict[str, Any]) -> None:
    """Raise ValueError unless all that is stored with the weights is valid: settings, class names, covariates, images shown, and the way
    back to native units."""
    check_format(state)
    config, classes, images = state["config"], state["classes"], state["images"]
    dims, size = config["image"]["spatial_dims"], config["data"]["size"]
    require(type(dims) is int and dims in (2, 3), f"`image.spatial_dims` must be 2 or 3, got {shown(dims)}")
    sides = [size] * dims if isinstance(size, int) else size
    require(
        is_table(sides, (dims,)) and all(0 < side <= MAX_UNITS for side in sides), f"`data.size` must be {dims} sides, got {shown(size)}"
    )
    require(
        type(config["seed"]) is int and config["seed"] >= 0, f"`seed` must be a whole number of at least 0, got {shown(config['seed'])}"
    )
    require(isinstance(config["module"], dict), "`module` must hold the settings of the networks")
    require(isinstance(config["model"]["generator"]["_target_"], str), "`model.generator._target_` must name a class")
    require(
        isinstance(classes, list) and all(isinstance(name, str) and len(name) <= MAX_LETTERS for name in classes),
        "`classes` must be names",
    )
    known = config["model"]["classes"]
    require(type(known) is int and known in (0, len(classes)), f"`model.classes` must be 0 or {len(classes)}, got {shown(known)}")
    require(type(images) is int and 0 <= images < 2**53, f"`images` must be how many were shown, got {shown(images)}")
    check_covariates(state.get("covariates", []), config["model"].get("covariates", []))  # a checkpoint from before them has none
    inverses = state.get("inverses", {})
    require(isinstance(inverses, dict) and inverses.keys() <= {*classes}, "`inverses` must be of the domains, which are the classes")
    pipelines = state.get("pipelines", {})  # their content is checked where they are built (data/prepare/pipelines.py)
    require(isinstance(pipelines, dict) and pipelines.keys() <= {"", *classes}, "`pipelines` must be of the domains, which are the classes")
    for inverse in (state["inverse"], *inverses.values()):
        check_inverse(inverse, dims)


def check_format(state: dict[str, Any]) -> None:
    """Raise ValueError unless the file has the present format; files without a number have format 1."""
    found = state.get("format", 1)
    age = "an older" if isinstance(found, int) and found < FORMAT else "another"
    require(
        found == FORMAT, f"it was written by {age} version of medgan_pl (format {shown(found)}, this one reads {FORMAT}); use that version"
    )


def check_inverse(inverse: Any, dims: int) -> None:
    """The way back to native units and into space."""
    for key, shape in {"levels": (None, 2), "spacing_mm": (dims,), "directions": (3, 3)}.items():
        fits = is_table(inverse[key], shape) or (inverse[key] is None and key != "levels")
        require(fits, f"`inverse.{key}` must be finite numbers of shape {shape}, got {shown(inverse[key])}")
    require(all(low < high for low, high in inverse["levels"]), "`inverse.levels` must be pairs of a lower and a higher value")
    require(all(side > 0 for side in inverse["spacing_mm"] or ()), "`inverse.spacing_mm` must be above 0")
    require(all(isinstance(inverse[key], str) and len(inverse[key]) <= 64 for key in ("unit", "modality")), "`inverse` must name its unit")


def check_covariates(columns: Any, names: Any) -> None:
    """The facts of what the model is told besides, one for each of `names`."""
    require(isinstance(columns, list) and len(columns) <= MAX_NODES, "`covariates` must be a list of columns")
    for column in columns:
        older = {"name", "mean", "sd", "low", "high", "levels", "missing"}
        keys = older | {"quantiles", "few"}
        fits = isinstance(column, dict) and column.keys() in (keys, older)
        require(fits, f"a column of `covariates` must have {', '.join(sorted(keys))}")
        numbers = [column[key] for key in ("mean", "sd", "low", "high", "missing")]
        require(
            is_table(numbers, (5,)) and not any(isinstance(number, bool) for number in numbers), "`covariates` must hold finite numbers"
        )
        require(column["sd"] > 0 and column["low"] <= column["high"] and 0 <= column["missing"] <= 1, "`covariates` must have a spread")
        points, few = column.get("quantiles", []), column.get("few", False)
        require(
            points == [] or (is_table(points, (21,)) and points == sorted(points)), "`covariates` must have 21 rising quantiles, or none"
        )
        require(isinstance(few, bool) and (bool(points) or not few), "`few` in `covariates` must be true or false, with quantiles")
        levels = column["levels"]
        texts = [column["name"], *(levels if isinstance(levels, list) else [])]
        require(all(isinstance(text, str) and len(text) <= 64 for text in texts), "names in `covariates` must be short")
        require(levels is None or (isinstance(levels, list) and len(levels) == 2), "`covariates` must have two levels, or none")
    require([column["name"] for column in columns] == names, "`covariates` must be those of model.covariates")


def is_table(node: Any, shape: tuple[int | None, ...]) -> bool:
    """Return True if `node` is nested lists of finite numbers of this shape; None stands for any length of at least 1."""
    if not shape:
        return isinstance(node, int | float) and math.isfinite(node)
    fits = isinstance(node, list) and len(node) == (shape[0] or max(1, len(node)))
    return fits and all(is_table(child, shape[1:]) for child in node)


# Settings ---------------------------------------------------------------------------------------------------------------------------

# Where the classes live that a configuration may build. A checkpoint travels between people, and building whatever it names would run their
# code; a prefix of the written name would not do, since the path to it may lead through any module imported on the way.
ALLOWED_PACKAGES = (
    "medgan_pl.models.module",
    "medgan_pl.models.players",
    "medgan_pl.models.networks",
    "medgan_pl.models.losses",
    "medgan_pl.models.games",
    "medgan_pl.metrics",
    "medgan_pl.models.schedules",
    "medgan_pl.models.augment",
    "medgan_pl.models.strength",
)

# The same for the data that a judgement opens anew.
DATA_PARTS = tuple(
    f"medgan_pl.data.{room}" for room in ("modalities", "intensity", "companion", "degrade")
)  # none opens a folder by itself
DATA_PACKAGES = ("medgan_pl.data.datamodule", "medgan_pl.data.domains", *DATA_PARTS)


def check_targets(node: Any, packages: tuple[str, ...] = ALLOWED_PACKAGES, functions: tuple[str, ...] = ()) -> None:
    """ValueError for anything in `node` that would build or evaluate more than the project's classes and torch's optimisers, or something
    too large: each `_target_` must be the full name of such a class or one of `functions`, all else plain, resolved and within the bounds
    above.

    Of Hydra's other words only `_partial_` may stand: `_args_` hands over what no name checks, `_recursive_` and `_convert_` change what
    was checked into something else.
    """
    for name, value in walk(node, MAX_NODES):
        if name == "_target_":
            if value not in functions:
                check_target(value, packages)
        elif name == "_partial_":
            require(isinstance(value, bool), f"`_partial_` must be true or false, got {shown(value)}")
        else:
            require(not re.fullmatch(r"_\w+_", name), f"a module may be built by `_target_` and `_partial_` alone, got {shown(name)}")
        check_value(name, value)


def check_value(name: str, value: Any) -> None:
    if isinstance(value, dict):
        require(all(isinstance(key, str) and len(key) <= MAX_LETTERS for key in value), "a stored configuration must have names as keys")
        check_pixels(value)
    elif isinstance(value, str):
        require("${" not in value, f"a stored configuration must be resolved, got the interpolation {shown(value)}")
        require(
            len(value) <= MAX_LETTERS, f"a stored configuration must have texts of at most {MAX_LETTERS} letters; {shown(name)} is longer"
        )
    elif isinstance(value, int):
        largest = 2**53 if COUNTED.search(name) else MAX_UNITS
        require(abs(value) <= largest, f"{shown(name)} must be at most {largest}, got {shown(value)}")
    else:
        plain = value is None or isinstance(value, list | float)
        require(plain, f"a stored configuration must be plain containers, got a {type(value).__name__}")


def check_pixels(node: dict[str, Any]) -> None:
    """A few weights can make a huge image, so a `size` has a bound of its own."""
    size = node.get("size")
    sides = size if isinstance(size, list) else [size] * (3 if node.get("spatial_dims") == 3 else 2)
    if all(isinstance(side, int) for side in sides):
        require(math.prod(sides) <= MAX_PIXELS, f"`size` must make at most {MAX_PIXELS} pixels, got {sides[:3]}")


def check_target(target: Any, packages: tuple[str, ...] = ALLOWED_PACKAGES) -> type:
    """Return the class named `target`; raise ValueError unless it is in `packages`, or an optimizer in torch.optim."""
    import importlib

    import torch

    package, _, name = (target if isinstance(target, str) and re.fullmatch(r"[\w.]+", target) else "").rpartition(".")
    allowed = package == "torch.optim" or any(package == root or package.startswith(f"{root}.") for root in packages)
    if allowed:
        try:
            found = getattr(importlib.import_module(package), name, None)
        except ImportError:
            found = None
        if isinstance(found, type):
            own = f"{found.__module__}.".startswith(f"{package}.")  # a package may show what one of its files holds
            if own or (package == "torch.optim" and issubclass(found, torch.optim.Optimizer)):
                return found
    raise ValueError(
        f"a module's `_target_` must be the full name of a class in {', '.join(packages)}, or of an optimiser in torch.optim; "
        f"got {shown(target)}"
    )


# Secrets ----------------------------------------------------------------------------------------------------------------------------

SECRET = r"(?:api_?key|access_?key|password|passwd|secret|token)"
NAMED, WRITTEN = re.compile(f"{SECRET}$", re.I), re.compile(SECRET + r"['\"]?\s*[=:]\s*['\"]?(?!null\b)[^\s'\",}\]]", re.I)


def check_secrets(node: Any) -> None:
    """ValueError, which does not show it, for a secret in plain containers or in the words of a command line: all are written to the run
    folder. A secret is the value of WANDB_API_KEY, and what stands under a name that ends in api_key, password, secret or token."""
    own = os.environ.get("WANDB_API_KEY", "")
    for name, value in walk(node, MAX_VALUES):
        text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
        if (text and NAMED.search(name)) or WRITTEN.search(text) or (len(own) >= 8 and own in f"{name} {text}"):
            where = f"`{name}`" if name and not (own and own in name) else "an argument"
            raise ValueError(
                f"no secret may stand in the configuration or on the command line, which are written to the run folder; {where} holds one: "
                "set WANDB_API_KEY in the environment, or run `wandb login`, and leave it out"
            )
