"""Secrets are kept out of every file that a run writes."""

import os
import re
from typing import Any

from medgan_pl.core.untrusted import MAX_VALUES, walk

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
