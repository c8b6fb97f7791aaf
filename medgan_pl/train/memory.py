"""A run that does not fit in the memory of its device: the settings that need less."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

WORDS = ("out of memory", "not enough memory", "can't allocate memory")


@contextmanager
def explained(config: dict[str, Any]) -> Iterator[None]:
    """Turn an error about memory into ValueError with the settings to change; other errors pass."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_short(error):
            raise
        raise ValueError(advice(config, error)) from error


def is_short(error: BaseException) -> bool:
    """Return True if an error says that memory is short: of a GPU by its type, of the processor by torch's words."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in WORDS)


def advice(config: dict[str, Any], error: BaseException) -> str:
    """Return what must fit, what the device said, and settings that need about half the memory each, with their numbers here."""
    data, width, parts = config["data"], config["model"].get("width"), config["accumulate"]
    batch, size, dims = data["batch_size"], data["size"], config["image"]["spatial_dims"]
    together = -(-batch // parts)
    sides = [size] * dims if isinstance(size, int) else list(size)
    shape = "×".join(map(str, sides))
    tried = [f"accumulate={2 * parts} (parts of {-(-batch // (2 * parts))} images, with the gradients of all)"] if together > 1 else []
    tried += [f"data.batch_size={batch // 2}"] if batch > 1 else []
    if min(sides) >= 16:
        less = sides[0] // 2 if len(set(sides)) == 1 else [side // 2 for side in sides]
        cut = "" if data.get("patches") or "patches" not in data else ", of the whole image, or data.patches=1 for pieces of that size"
        tried.append(f"data.size={str(less).replace(' ', '')} (1/{2**dims} of the memory{cut})")
    tried += [f"model.width={width // 2}"] if isinstance(width, int) and width > 1 else []
    tried += ["trainer.precision=bf16-mixed"] if str(config["trainer"].get("precision")).startswith("32") else []
    said = str(error).splitlines()[0].rstrip(". ") if str(error) else type(error).__name__
    wide = "" if width is None else f" by networks of width {width}"
    return (
        f"the memory of the device must hold {together} images of {shape}{wide} at once (data.batch_size={batch}, accumulate={parts}), and "
        f"it does not: {said}; use one of these, or several: {'; '.join(tried)}"
    )
