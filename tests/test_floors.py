"""The floors of the house: imports go down only, and rooms on one floor do not import each other."""

import ast
from pathlib import Path

import pytest

import medgan_pl

PACKAGE = Path(medgan_pl.__file__).parent
FLOORS = {
    4: ("train", "evaluate", "subjects", "sample", "compare", "inspect", "project", "apply", "applied", "export", "sweeps", "build"),
    3: ("module", "callbacks", "checkpoints", "monitors", "data.datamodule", "data.domains", "evaluation", "report"),
    2: ("games", "metrics", "transfer"),
    1: ("networks", "losses", "augment", "data", "schedules", "checks", "guards", "interval"),
    0: ("batch", "keys", "console", "trust", "resample", ""),
}
ONLY_FROM = {"hydra": 4, "omegaconf": 4, "wandb": 4, "pytorch_lightning": 3}
# A callback looks at the module; the other entry points start as train does, and build or load as it or sample does.
MAY_LOOK = {("callbacks", "module"), ("checkpoints", "module"), ("monitors", "module"), ("sample", "train"), ("inspect", "train")}
MAY_LOOK |= {("export", "sample"), ("export", "build"), ("export", "train"), ("train", "sweeps"), ("train", "build"), ("sample", "build")}
MAY_LOOK |= {("compare", "train"), ("evaluate", "train"), ("evaluate", "build"), ("evaluate", "sample"), ("evaluate", "subjects")}
MAY_LOOK |= {("project", "sample"), ("project", "build"), ("project", "train")}
MAY_LOOK |= {("data.domains", "data.datamodule")}
MAY_LOOK |= {("apply", "applied"), ("apply", "sample"), ("apply", "build"), ("apply", "train"), ("applied", "sample")}
MAY_LOOK |= {("subjects", "sample"), ("subjects", "build"), ("subjects", "train")}


def place(name: str) -> tuple[int, str]:
    """Floor and room of a module's name below the package: data.cache -> (1, data)."""
    best = max(
        ((floor, room) for floor, rooms in FLOORS.items() for room in rooms if name == room or name.startswith(f"{room}.") or not room),
        key=lambda found: len(found[1]),
    )
    return best


def imports(path: Path) -> list[str]:
    """Full names of what a file imports when it is loaded or run, except for type checking alone."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    names = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    own = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
    floor, room = place(own)
    for name in imports(path):
        library = name.split(".")[0]
        if library in ONLY_FROM and own:
            assert floor >= ONLY_FROM[library], f"{own or 'the package'} is on floor {floor} and imports {library}"
        if name.startswith("medgan_pl") and own:
            other_floor, other = place(name.removeprefix("medgan_pl").lstrip("."))
            below = other_floor < floor or other == room or (room, other) in MAY_LOOK
            assert below, f"{own} (floor {floor}) imports {name} (floor {other_floor})"


def test_the_walk_finds_a_wrong_import(tmp_path: Path) -> None:
    wrong = tmp_path / "x.py"
    wrong.write_text("def f():\n    from medgan_pl.games.base import Game\n    import wandb\n")
    assert imports(wrong) == ["medgan_pl.games.base", "wandb"]
    assert place("games.base") == (2, "games")
    assert place("data.datamodule") == (3, "data.datamodule")
    assert place("data.cache") == (1, "data")
