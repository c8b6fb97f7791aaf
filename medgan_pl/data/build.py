"""Build a data module from its configuration and set it up."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from medgan_pl.core.command import instantiate

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule


def open_data(node: Mapping[str, Any], **changes: Any) -> "ImageDataModule":
    """Return the data module that `node` describes, set up; `changes` replace its arguments. Raises as its constructor and `setup`."""
    data = instantiate(node, **changes)
    data.setup()
    return data
