"""The plan of the house: verbs over nouns, imports go down only, and no verb imports another."""

import ast
from pathlib import Path

import pytest

import medgan_pl

PACKAGE = Path(medgan_pl.__file__).parent
ROOT = PACKAGE.parent
VERBS = ("train", "sample", "apply", "evaluate", "compare", "inspect", "export", "analyze")
NOUNS = ("core", "data", "models", "metrics")  # from the ground up
# Who may import a library besides the verbs.
ONLY_FROM = {
    "hydra": ("core.command",),
    "omegaconf": ("core.command",),
    "wandb": ("core.command",),
    "pytorch_lightning": ("core.command", "models.module", "data.datamodule", "data.streamed"),
}


def imports(path: Path) -> list[str]:
    """Return the full names of what a file imports when it is loaded or run, except for type checking alone."""
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


def may_import(own: str, other: str) -> bool:
    """Return whether a module of the package may import another, both by their names below it: data.datamodule, core.batch."""
    room, below = own.split(".")[0], other.split(".")[0]
    if room == below or not below:
        return True
    if room in VERBS:
        return below in NOUNS
    return below in NOUNS and room in NOUNS and NOUNS.index(below) < NOUNS.index(room)


def own_name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path) -> None:
    own = own_name(path)
    if own in ("", "project"):  # the package itself, and the old name of a command
        return
    for name in imports(path):
        library = name.split(".")[0]
        if library in ONLY_FROM and own.split(".")[0] not in VERBS:
            assert own in ONLY_FROM[library], f"{own} imports {library}"
        if library == "medgan_pl":
            other = name.removeprefix("medgan_pl").lstrip(".")
            assert may_import(own, other), f"{own} imports {name}"


@pytest.mark.parametrize(
    "path", sorted([*(ROOT / "experiments").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]), ids=lambda path: path.stem
)
def test_studies_and_benchmarks_import_nouns_only(path: Path) -> None:
    for name in imports(path):
        if name.startswith("medgan_pl."):
            assert name.split(".")[1] in NOUNS, f"{path} imports {name}"


def test_no_two_modules_import_each_other() -> None:
    """The modules of the package form no circle by what they import when they are loaded."""
    names = {own_name(path): path for path in FILES}
    arrows = {name: {each for each in loaded(path, names) if each != name} for name, path in names.items()}
    done: set[str] = set()
    while True:
        free = {name for name, others in arrows.items() if name not in done and others <= done}
        if not free:
            break
        done |= free
    assert done == set(arrows), f"these import each other in a circle: {sorted(set(arrows) - done)}"


def loaded(path: Path, names: dict[str, Path]) -> list[str]:
    """Return the modules of the package that a file imports at its top level."""
    found = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medgan_pl"):
            base = node.module.removeprefix("medgan_pl").lstrip(".")
            submodules = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            found += [each if each in names else base for each in submodules]
    return [each for each in found if each in names]


def test_no_module_shadows_the_standard_library() -> None:
    import sys

    for path in FILES:
        assert path.stem not in sys.stdlib_module_names or path.stem in ALLOWED_NAMES, f"{path} shadows the standard library's {path.stem}"


ALLOWED_NAMES: tuple[str, ...] = ()


@pytest.mark.parametrize("verb", VERBS)
def test_a_door_is_thin(verb: str) -> None:
    assert len((PACKAGE / verb / "__main__.py").read_text().splitlines()) < 60
    assert (PACKAGE / verb / "__init__.py").is_file() == (verb != "inspect")


def test_the_walk_finds_a_wrong_import(tmp_path: Path) -> None:
    wrong = tmp_path / "x.py"
    wrong.write_text("def f():\n    from medgan_pl.models.games.base import Game\n    import wandb\n")
    assert imports(wrong) == ["medgan_pl.models.games.base", "wandb"]
    assert not may_import("data.datamodule", "models.games.base")
    assert not may_import("evaluate.run", "sample.draw")
    assert may_import("metrics.paired", "models.losses.structure")
