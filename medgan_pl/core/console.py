"""The output of the entry points: log lines above the progress bar, the manual behind --help, one message for an error."""

import difflib
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medgan_pl.core.visible import block, message

log = logging.getLogger("medgan_pl")


class ConsoleHandler(logging.Handler):
    """A handler that writes log lines to rich's console, so that they appear above a live progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from rich import get_console

        get_console().print(self.format(record), soft_wrap=True, markup=False, highlight=False)


class VisibleFormatter(logging.Formatter):
    """A formatter of log lines in which nothing acts on a terminal, and no name begins a line of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging names it)
        record.message = message(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return block(super().formatException(ei))


def show_visibly() -> None:
    """Make warnings of libraries, and log lines of a command without a log of its own, go through `visible.message` as well."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(VisibleFormatter())
    warnings.formatwarning = warning_line


def warning_line(text: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
    return f"{message(f'{filename}:{lineno}: {category.__name__}: {text}')}\n"


def say(*texts: str, error: bool = False) -> None:
    """Print each text, on a line of its own, to the screen; with `error` to the stream of errors. See `visible.message`."""
    print(*map(message, texts), sep="\n", file=sys.stderr if error else sys.stdout)


def configuration_folder() -> Path:
    """Return the folder `conf/`: inside the package if it was installed from a wheel, next to the package in a checkout."""
    package = Path(__file__).parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def describe_groups(folder: Path, *, skip: tuple[str, ...] = ("hydra",)) -> str:
    """Return every group of the configuration with its options, each with the first comment of its file."""
    lines = []
    for group in sorted(path for path in folder.iterdir() if path.is_dir() and path.name not in skip):
        options = sorted(group.glob("*.yaml"))
        if options:
            lines.append(f"  {group.name}")
            for option in options:
                comments = (line for line in option.read_text(encoding="utf-8").splitlines() if not line.startswith("# @"))
                lines.append(f"    {option.stem:<16} {next(comments, '').lstrip('# ')}")
    return "\n".join(lines)


def describe_keys(file: Path) -> str:
    """Return the keys of a configuration file that have a comment, with their default values, below the keys that contain them."""
    shown, above = [], []  # above: the keys that contain the line, with their depth
    for line in file.read_text(encoding="utf-8").splitlines():
        depth = len(line) - len(line.lstrip())
        if not line.strip() or line[depth] in "#-":
            continue
        above = [(d, key) for d, key in above if d < depth]
        if " # " in line:
            shown += [key for _, key in above if key not in shown]
            shown.append(line.rstrip())
        above.append((depth, line.rstrip()))
    return "\n".join(f"  {line}" for line in shown)


# Names in the configuration: keys in a line, in braces or in a defaults list (/extractor@inception.extractor), and packages (@package
# beside.source).
NAMING = re.compile(r"^\s*(?:- *)?(?:override )?([\w./@]+):|[{,] *(\w+):|^# @package ([\w.]+)", re.MULTILINE)


def suggest(arguments: list[str], folder: Path) -> list[str]:
    """Return a hint with the nearest names for each key on the command line that the configuration does not have.

    An argument with a + in front adds a new key, so its names count as known.
    """
    known = {part for path in folder.rglob("*") for part in path.relative_to(folder).with_suffix("").parts}
    for file in folder.rglob("*.yaml"):
        for found in NAMING.findall(file.read_text(encoding="utf-8")):
            known.update(names("".join(found)))
    keys = [argument.split("=")[0] for argument in arguments if "=" in argument]
    known.update(name for key in keys if key.startswith("+") for name in names(key))
    hints = {}  # each once
    for name in (name for key in keys for name in names(key) if name not in known):
        near = " or ".join(f"`{word}`" for word in difflib.get_close_matches(name, known, n=3, cutoff=0.7))
        hints[name] = f"there is no `{name}` in the configuration" + (f"; did you mean {near}?" if near else "")
    return [*hints.values(), *misplaced(keys, folder), *not_of_the_option(arguments, folder)]


def not_of_the_option(arguments: list[str], folder: Path) -> list[str]:
    """Return a hint for each key of a group whose option, typed as well, does not have it: `penalty=none penalty.weight=3`."""
    import yaml

    typed, hints = dict(argument.partition("=")[::2] for argument in arguments if "=" in argument), []
    for key in typed:
        group, _, name = key.partition(".")
        files = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) or {} for path in (folder / group).glob("*.yaml")}
        option = files.get(typed.get(group, ""))
        if name and option is not None and "defaults" not in option and name.split(".")[0] not in option:
            having = sorted(other for other, file in files.items() if name.split(".")[0] in file)
            choose = f"; {name} is a setting of {group}={', '.join(having)}" if having else ""
            hints.append(f"{group}={typed[group]} has no `{name}`{choose}")
    return hints


def misplaced(keys: list[str], folder: Path) -> list[str]:
    """Return a hint for each key whose last name stands elsewhere: `spatial_dims` is `image.spatial_dims`.

    Only bare keys and those of `data` and `image` are judged. A key that refers to another (`${…}`) is no place to set it.
    """
    import yaml

    places = [("", folder.glob("*.yaml")), ("data.", (folder / "data").rglob("*.yaml"))]
    files = [(prefix, yaml.safe_load(file.read_text(encoding="utf-8"))) for prefix, found in places for file in found]
    known = {prefix + key: value for prefix, tree in files for key, value in nested(tree) if not key.startswith("hydra")}
    judged = [key for key in keys if re.fullmatch(r"(data\.|image\.)?\w+", key) and key not in known and not (folder / key).is_dir()]
    hints = []
    for key in judged:
        last = key.rpartition(".")[2]
        own = {each: value for each, value in known.items() if not each.startswith("hydra.")}
        ends = sorted(each for each, value in own.items() if each.rpartition(".")[2] == last and not str(value).startswith("${"))
        if ends:
            hints.append(f"there is no `{key}` in the configuration; did you mean {' or '.join(f'`{each}`' for each in ends[:3])}?")
    return hints


def nested(node: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key of a configuration file, with those above it (image.spatial_dims), and its value."""
    for key, value in node.items() if isinstance(node, dict) else ():
        yield where + str(key), value
        yield from nested(value, f"{where}{key}.")


def names(key: str) -> list[str]:
    """Return the names in a key of the command line or of a defaults list."""
    return re.split(r"[.@/]", key.lstrip("+~/"))


def root_cause(error: BaseException) -> BaseException:
    """Return the original error inside Hydra's wrappers."""
    while type(error).__module__.startswith("hydra") and error.__cause__ is not None:
        error = error.__cause__
    return error


@contextmanager
def one_message(trace: Path | None) -> Iterator[None]:
    """Turn an error into one message and exit code 1. Write the traceback to the file `trace`, or print it with MEDGAN_TRACEBACK=1."""
    try:
        yield
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        if os.environ.get("MEDGAN_TRACEBACK") == "1":
            raise
        cause = root_cause(error)
        hint = f"; the traceback is in {trace}" if trace else "; MEDGAN_TRACEBACK=1 shows the traceback"
        expected = isinstance(cause, (ValueError, TypeError, OSError, FloatingPointError, KeyError, ImportError))
        kind = "" if expected and str(cause) else f"{type(cause).__name__}: "
        sys.stdout.flush()
        short = "; use a smaller batch_size, or device=cpu" if type(cause).__name__ == "OutOfMemoryError" else ""
        said = [f"error: {kind}{cause}{short}", *([f"where: {error.full_key}"] if getattr(error, "full_key", "") else [])]
        say(*said[:-1], f"{said[-1]}{'' if expected else hint}", error=True)
        if trace:
            with trace.open("a", encoding="utf-8") as file:
                file.write(block(traceback.format_exc()))
        raise SystemExit(1) from None


def watched(items: Iterable[Any], total: int, what: str) -> Iterator[Any]:
    """Yield the items, with a progress bar on a terminal, or after one log line elsewhere."""
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(items, what, total=total, console=Console(stderr=True), transient=True)
    else:
        log.info("%s: %d", what, total)
        yield from items
