"""What comes from a file that travels between people: read without running it, held to its own size, built only from our own classes."""

import hashlib
import json
import math
import os
import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Bounds on what a file may ask for, each ten times and more above what a run of ours writes (nodes: a configuration has about 300).
MOST_PICKLE = 8 * 2**20  # bytes of the pickle that says which tensors there are; it takes seconds to walk through
MOST_VALUES = 200_000  # containers and values of a whole checkpoint, one that is referred to many times counted as often
MOST_NODES, MOST_DEPTH, MOST_LETTERS = 5_000, 32, 4096  # of a configuration
MOST_UNITS = 2**20  # any number of channels, classes, pixels a side, steps: what something is built by
MOST_PIXELS = 2**28  # of an image; 1 GiB in float32
COUNTED = re.compile(r"(^|_)(images|every|seed)$")  # names of numbers that nothing is built by
FORMAT = 1  # of shared weights

# All that the pickle of a checkpoint of ours names. torch's own list for weights_only is longer, and lets a bytearray of any length through.
KNOWN = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch [A-Z][A-Za-z0-9]*Storage")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds: nothing unpickled but tensors and plain containers, every byte held against its checksum.

    FileNotFoundError if there is no such file, ValueError if it is not a whole medgan_pl checkpoint within the bounds above.
    """
    import torch

    def read(path: Path) -> dict[str, Any]:
        check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)

    return checked(Path(path), read, "a whole checkpoint written by medgan_pl.train")


def read_shared(path: str | Path) -> dict[str, Any]:
    """What a .safetensors file of `medgan_pl.export` holds, in the form of a checkpoint: `medgan_pl` and `state_dict`.

    Errors as `read_checkpoint`.
    """
    from safetensors import safe_open

    def read(path: Path) -> dict[str, Any]:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        hold(header <= MOST_PICKLE, f"its header must have at most {MOST_PICKLE} bytes, it says {header}")
        with safe_open(path, "pt") as file:
            told, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
        hold(told.get("sha256") == fingerprint(told["medgan_pl"], tensors), "its checksum is not that of its weights and settings")
        state = json.loads(told["medgan_pl"])
        hold(state["format"] == FORMAT, f"its format must be {FORMAT}, got {str(state['format'])[:20]}; use the version that wrote it")
        return {"medgan_pl": state, "state_dict": tensors}

    return checked(Path(path), read, "whole weights written by medgan_pl.export")


def fingerprint(told: str, tensors: dict[str, Any]) -> str:
    """The SHA-256 of shared weights and of what is told of them; safetensors keeps no checksum."""
    import torch

    found = hashlib.sha256(told.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def checked(path: Path, read: Any, wanted: str) -> dict[str, Any]:
    """What `read` makes of a file, held to what `load` and a run that goes on rely on."""
    if not path.is_file():
        raise FileNotFoundError(f"`checkpoint` must be a checkpoint file, such as outputs/<date>/<time>/checkpoints/best.ckpt; got {path}")
    try:
        content = read(path)
        check_values(content, path.stat().st_size)
        check_state(content["medgan_pl"])
    except Exception as error:  # of any type: bytes made to harm come out of the readers as nearly every one there is
        why = (str(error) or type(error).__name__).splitlines()[0][:500]
        raise ValueError(f"{path} must be {wanted}; it is not: {why}") from error
    return content


def hold(condition: bool, why: str) -> None:
    if not condition:
        raise ValueError(why)


def check_archive(path: Path) -> None:
    """Holds the zip of a checkpoint to its checksums, which torch's reader passes over, and its pickle to names that we know."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        # Two readers must not see two files: torch's takes names without regard to case. Nothing packed can swell, and nothing overlaps.
        hold(len({member.filename.lower() for member in members}) == len(members), "two of its parts have one name")
        hold(all(member.compress_type == zipfile.ZIP_STORED for member in members), "its parts must be stored, not compressed")
        hold(sum(member.file_size for member in members) <= path.stat().st_size, "its parts say they are larger than the file")
        for member in members:
            with archive.open(member) as content:
                while content.read(2**20):
                    pass  # the checksum is held at the end
        (pickle,) = [member for member in members if member.filename.lower().endswith("/data.pkl")]
        hold(pickle.file_size <= MOST_PICKLE, f"its pickle must have at most {MOST_PICKLE} bytes, got {pickle.file_size}")
        for code, argument, _ in pickletools.genops(archive.read(pickle)):
            if code.name == "GLOBAL" and not KNOWN.fullmatch(argument):
                raise ValueError(f"it names {argument[:100]!r}, and a checkpoint holds tensors and plain containers alone")


def walk(node: Any, most: int, deepest: int = MOST_DEPTH) -> Iterator[tuple[str, Any]]:
    """Each value below `node` with the key it stands under (for one in a list the list's), containers too; ValueError past the bounds.

    A container that is referred to many times is walked as often: that is how little text makes much.
    """
    seen, ahead = 0, [("", node, 0)]
    while ahead:
        key, value, depth = ahead.pop()
        yield key, value
        seen += 1
        below = (
            list(value.items()) if isinstance(value, dict) else [(key, child) for child in value] if isinstance(value, list | tuple) else []
        )
        hold(seen + len(ahead) + len(below) <= most, f"it must hold at most {most} values")
        hold(depth < deepest or not below, f"it must be at most {deepest} levels deep")
        ahead += [(name if isinstance(name, str) else "", child, depth + 1) for name, child in below]


def check_values(content: Any, size_bytes: int) -> None:
    """Only plain values and dense tensors that together fill no more memory than the file has bytes: strides of 0 can claim any shape."""
    import torch

    claimed = 0
    for key, value in walk(content, MOST_VALUES):
        if isinstance(value, torch.Tensor):
            hold(value.layout is torch.strided and value.device.type == "cpu", f"the tensor {key[:100]!r} must be dense")
            claimed += value.numel() * value.element_size()
            hold(claimed <= size_bytes, f"the tensor {key[:100]!r} of shape {tuple(value.shape)} claims more than the file holds")
        else:
            hold(value is None or isinstance(value, dict | list | tuple | str | int | float), f"it holds a {type(value).__name__}")
    hold(all(isinstance(content.get(key), dict) for key in ("medgan_pl", "state_dict")), "it must hold `medgan_pl` and `state_dict`")
    hold(all(isinstance(value, torch.Tensor) for value in content["state_dict"].values()), "`state_dict` must hold tensors alone")


def check_state(state: dict[str, Any]) -> None:
    """What stands beside the weights: the settings, the names of the classes, the images shown, the way back to native units."""
    config, classes, images = state["config"], state["classes"], state["images"]
    check_plain(config)
    dims, size, known = config["image"]["spatial_dims"], config["data"]["size"], config["model"]["classes"]
    sizes = [size] * dims if isinstance(size, int) and dims in (2, 3) else size
    hold(dims in (2, 3) and len(sizes) == dims and all(type(side) is int and side > 0 for side in sizes), f"`data.size` is {size!r:.100}")
    hold(isinstance(config["module"], dict) and type(config["seed"]) is int, "`config` must hold `module` and `seed`")
    hold(isinstance(config["model"]["generator"]["_target_"], str), "`config.model.generator` must name its class")
    names = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    hold(names and known in (0, len(classes)), "`classes` must be a list of as many names as the model has classes")
    hold(type(images) is int and 0 <= images < 2**53, f"`images` must be a number of images, got {images!r:.100}")
    inverse = state["inverse"]
    for key, shape in {"levels": (None, 2), "spacing_mm": (dims,), "directions": (3, 3)}.items():
        hold(is_table(inverse[key], shape) or (inverse[key] is None and key != "levels"), f"`inverse.{key}` is {inverse[key]!r:.100}")
    hold(all(low < high for low, high in inverse["levels"]), "`inverse.levels` must be pairs of a lower and a higher value")
    hold(all(side > 0 for side in inverse["spacing_mm"] or ()), "`inverse.spacing_mm` must be above 0")
    hold(all(isinstance(inverse[key], str) and len(inverse[key]) <= 64 for key in ("unit", "modality")), "`inverse` must name its unit")


def is_table(node: Any, shape: tuple[int | None, ...]) -> bool:
    """Whether `node` is nested lists of finite numbers of this shape, None standing for any length of at least 1."""
    if not shape:
        return isinstance(node, int | float) and math.isfinite(node)
    fits = isinstance(node, list) and len(node) == (shape[0] or max(1, len(node)))
    return fits and all(is_table(child, shape[1:]) for child in node)


# Where the classes live that a configuration may build. A checkpoint travels between people, and building whatever it names would run their
# code; a prefix of the written name would not do, since the path to it may lead through any module imported on the way.
ALLOWED_PACKAGES = (
    "medgan_pl.module",
    "medgan_pl.networks",
    "medgan_pl.losses",
    "medgan_pl.games",
    "medgan_pl.metrics",
    "medgan_pl.schedules",
)


def check_plain(config: Any) -> None:
    """ValueError unless `config` is plain containers within the bounds above, resolved, and asks for nothing too large to build."""
    for key, node in walk(config, MOST_NODES):
        if isinstance(node, dict):
            for name in node:
                hold(isinstance(name, str) and len(name) <= MOST_LETTERS, "a stored configuration must have names as keys")
            check_size(node)
        elif isinstance(node, str):
            hold("${" not in node, f"a stored configuration must be resolved, got the interpolation {node[:100]!r}")
            hold(
                len(node) <= MOST_LETTERS,
                f"a stored configuration must have texts of at most {MOST_LETTERS} letters, `{key[:100]}` has more",
            )
        elif isinstance(node, int):
            most = 2**63 if COUNTED.search(key) else MOST_UNITS
            hold(abs(node) <= most, f"`{key[:100]}` must be at most {most}, got {node if node.bit_length() < 300 else 'far more'}")
        else:
            plain = node is None or isinstance(node, list | float)
            hold(plain, f"a stored configuration must be plain containers, got a {type(node).__name__}")


def check_size(node: dict[str, Any]) -> None:
    """Few weights can make a huge image, so `size` has a bound of its own."""
    size, dims = node.get("size"), node.get("spatial_dims", 2)
    sizes = size if isinstance(size, list) else [size] * (3 if dims == 3 else 2)
    if all(type(side) is int for side in sizes):
        hold(math.prod(sizes) <= MOST_PIXELS, f"`size` must be at most {MOST_PIXELS} pixels in all, got {size}")


def check_targets(node: Any) -> None:
    """ValueError for anything in the plain containers of `node` that would build or evaluate more than the project's classes and torch's
    optimisers: each `_target_` must be the full name of such a class, and of Hydra's other words only `_partial_` may stand, true or false:
    `_args_` hands over what no name checks, `_recursive_` and `_convert_` change what is checked into something else."""
    check_plain(node)
    for key, value in walk(node, MOST_NODES):
        if key == "_target_":
            check_target(value)
        elif key == "_partial_":
            hold(isinstance(value, bool), f"`_partial_` must be true or false, got {value!r:.100}")
        else:
            hold(
                not (key.startswith("_") and key.endswith("_") and key),
                f"a module may be built by _target_ and _partial_ alone, got {key[:100]}",
            )


def check_target(target: Any) -> None:
    """ValueError unless `target` is the full name of a class in ALLOWED_PACKAGES, or of an optimiser in torch.optim."""
    import importlib

    import torch

    package, _, name = str(target).rpartition(".")
    allowed = package == "torch.optim" or any(package == root or package.startswith(f"{root}.") for root in ALLOWED_PACKAGES)
    if allowed:
        try:
            found = getattr(importlib.import_module(package), name, None)
        except ImportError:
            found = None
        if isinstance(found, type) and (
            found.__module__ == package or (package == "torch.optim" and issubclass(found, torch.optim.Optimizer))
        ):
            return
    raise ValueError(
        f"a module's `_target_` must be the full name of a class in {', '.join(ALLOWED_PACKAGES)}, or of an optimiser in torch.optim; "
        f"got {str(target)[:200]!r}"
    )


@contextmanager
def at_most(weights: int) -> Iterator[None]:
    """Inside, ValueError as soon as modules have been given more parameters than `weights`: a loop that a file asks for ends early."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    given = 0

    def count(*_: Any) -> None:
        nonlocal given
        given += 1
        hold(given <= weights, f"the settings ask for more than {weights} weights, and the file holds far fewer")

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


SECRET = re.compile(r"(?:api_?key|access_?key|password|passwd|secret|token)$", re.IGNORECASE)
WRITTEN = re.compile(SECRET.pattern[:-1] + r"['\"]?\s*[=:]\s*['\"]?(?!null\b|['\",}\]]|$)", re.IGNORECASE)


def check_secrets(node: Any) -> None:
    """ValueError, which does not show it, for a secret in plain containers or in the words of a command line: all of these are written
    to the run folder. A secret is the value of WANDB_API_KEY, and whatever stands under a name such as api_key, password or token."""
    own = os.environ.get("WANDB_API_KEY", "")
    for key, value in walk(node, most=10**6):
        given = isinstance(value, str | int) and not isinstance(value, bool) and value != ""
        named = given and SECRET.search(key)
        if named or (isinstance(value, str) and ((len(own) >= 8 and own in value) or WRITTEN.search(value))):
            raise ValueError(
                "a secret must not stand in the configuration or on the command line, which are written to the run folder, and "
                f"{f'`{key}`' if key else 'an argument'} holds one; set WANDB_API_KEY in the environment, or run `wandb login`, and leave it out"
            )
