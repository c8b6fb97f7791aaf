"""Check each setting of the configuration against the kind of value that its class declares, before anything is built."""

import inspect
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from medgan_pl.core.settings import joined

SIMPLE = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path", type(None): "null"}
MAX_TIME = re.compile(r"\d+:\d+:\d+:\d+")  # Lightning's


def check_kinds(config: Mapping[str, Any]) -> None:
    """Raise ValueError, by its key, for a setting that the class of its `_target_` does not have, and for a value of another kind than the
    class declares: a text for a number, maybe for true or false. Settings are judged where they are typed; `module` refers to them."""
    for key in sorted(config, key=lambda name: name == "module"):
        for where, node in built(config[key], key):
            check_node(where, node)
    time = config["trainer"].get("max_time")
    if isinstance(time, str) and not MAX_TIME.fullmatch(time):
        raise ValueError(f"`trainer.max_time` must be DD:HH:MM:SS, such as 00:12:00:00 for half a day, got {time!r}")


def built(node: Any, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each node at and below `where` that names a `_target_`, with its key."""
    if isinstance(node, Mapping):
        if isinstance(node.get("_target_"), str):
            yield where, node
        for name, value in node.items():
            yield from built(value, joined(where, str(name)))
    elif isinstance(node, list):
        for value in node:
            yield from built(value, where)


def check_node(where: str, node: Mapping[str, Any]) -> None:
    """Raise ValueError unless the class of a node takes its settings; a class that cannot be imported is left to who builds it."""
    from hydra.utils import get_object

    try:
        target = get_object(node["_target_"])
        known = inspect.signature(target).parameters
        hints = get_type_hints(target.__init__ if isinstance(target, type) else target)
    except Exception:  # of any type: a module may fail as it is imported
        return
    free = any(each.kind is each.VAR_KEYWORD for each in known.values())
    for name, value in node.items():
        if name.startswith("_"):
            continue
        if name not in known:
            if free:
                continue
            names = ", ".join(known) or "none"
            raise ValueError(f"`{joined(where, name)}` is no setting of {node['_target_'].split('.')[-1]}; it has {names}")
        hint = hints.get(name, Any)
        if not (fits(value, hint) or (value is None and known[name].default is None)):
            raise ValueError(f"`{joined(where, name)}` must be {said(hint)}, got {value!r}")


def fits(value: Any, hint: Any) -> bool:
    """Return False if a plain value surely is not of the kind of an annotation. Settings of an object, which are a dict, fit any."""
    kind, inner = get_origin(hint), get_args(hint)
    if isinstance(value, dict) or (isinstance(value, str) and "${" in value):
        return True
    if kind in (Union, types.UnionType):
        return any(fits(value, each) for each in inner)
    if kind is Literal:
        return value in inner
    if kind is Annotated:
        return fits(value, inner[0])
    if kind is not None:
        return fits_many(value, kind, inner)
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if hint in (Any, object) or not isinstance(hint, type) or isinstance(value, list):  # without an annotation it is Any
        return True
    try:
        return isinstance(value, hint) or (isinstance(value, str) and issubclass(hint, Path | Enum))
    except TypeError:  # a protocol, of which no value can be asked
        return True


def fits_many(value: Any, kind: Any, inner: tuple[Any, ...]) -> bool:
    """Return False if a value surely is not of a parametrized kind, such as Sequence[int]."""
    if not (isinstance(kind, type) and issubclass(kind, Sequence | Mapping)):
        return not isinstance(value, bool | int | float | str) and value is not None
    if not isinstance(value, list):
        return False
    many = [inner[0]] * len(value) if len(inner) == 1 or inner[1:] == (...,) else inner
    return issubclass(kind, Mapping) or len(many) != len(value) or all(map(fits, value, many))


def said(hint: Any) -> str:
    """Return an annotation in words: a number or null."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(said(each) for each in inner))
    if kind is Literal:
        return "one of " + ", ".join(map(str, inner))
    if kind is Annotated:
        return said(inner[0])
    if kind is not None and isinstance(kind, type):
        return "a list" if issubclass(kind, Sequence) else "names and values" if issubclass(kind, Mapping) else "settings of an object"
    return SIMPLE.get(hint, "settings of an object")
