"""The words of page and model card for the values of a judgement."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from jinja2 import Undefined

from medgan_pl.core.visible import visible
from medgan_pl.evaluate.report.digits import number, spelled
from medgan_pl.evaluate.report.judgement import Row

UNKNOWN = "not recorded"
DIRECTIONS = {"lower": "↓ lower is better", "higher": "↑ higher is better", "floor": "◎ best where held-out real images are"}


def recorded(value: Any) -> str:
    """Return the value as text, or "not recorded" if it is missing, None or empty."""
    if isinstance(value, Undefined) or value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def short_name(subject: Mapping[str, Any]) -> str:
    """Return the model's name of a checkpoint, otherwise the last part of the name that was given: never a path."""
    return str(subject.get("model") or PurePath(subject.get("name") or UNKNOWN).name)


def file_name(path: str) -> str:
    """Return the last part of a path."""
    return PurePath(path).name


def image_size(data: Mapping[str, Any]) -> str:
    """Return the size of an image as text: "64 × 64 pixels", "32 × 32 × 32 voxels, 2 channels"."""
    size, dims, channels = data.get("size"), data.get("spatial_dims", 2), data.get("channels") or 1
    if size is None:
        return UNKNOWN
    sides = " × ".join(map(str, size if isinstance(size, (list, tuple)) else [size] * dims))
    return f"{sides} {'voxels' if dims == 3 else 'pixels'}" + (f", {channels} channels" if channels > 1 else "")


def minute(created: Any) -> str:
    """Return a time to the minute: 2026-11-21T09:30:00+00:00 -> 2026-11-21 09:30."""
    return recorded(created)[:16].replace("T", " ")


def described(row: Row) -> str:
    """Return the numbers that a drawing of the row shows, in words, for readers who do not see the drawing."""
    parts = [f"{row['name']}: {spelled(row['estimate'])[0] if row['estimate'] else 'not defined'}"]
    parts += [f"held-out reals {spelled(row['floor'])[0]}"] if row["floor"] else []
    parts += [f"{level} {number(value)}" for level, value in row["ladder"].items()]
    parts += [f"noise {number(row['noise'])}"] if row["noise"] is not None else []
    return "; ".join(parts)


def pretty(value: Any, indent: int = 0) -> str:
    """Return plain containers as indented lines, similar to YAML. The result is for reading and is not parsed again."""
    if isinstance(value, Mapping) and value:
        inner = {visible(str(key)): pretty(part, indent + 1) for key, part in value.items()}
        lines = [f"{key}:{text}" if text.startswith("\n") else f"{key}: {text}" for key, text in inner.items()]
    elif isinstance(value, (list, tuple)) and any(isinstance(part, (Mapping, list, tuple)) for part in value):
        lines = [f"- {pretty(part, indent + 1).lstrip()}" for part in value]
    elif isinstance(value, (list, tuple)):
        return f"[{', '.join(map(pretty, value))}]"
    else:
        return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else visible(str(value))
    text = "".join(f"\n{'  ' * indent}{line}" for line in lines)
    return text if indent else text.lstrip()
