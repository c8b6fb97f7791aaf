"""Build the extractors that a configuration names."""

from collections.abc import Mapping
from typing import Any

from medgan_pl.core.command import instantiate
from medgan_pl.metrics.extractors.features import Extractor


def build_extractors(nodes: Mapping[str, Any]) -> list[Extractor]:
    """Return an extractor for each node of the `extractor` configuration, in its order. Raises as their constructors."""
    return list(instantiate(nodes).values())
