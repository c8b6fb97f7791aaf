"""The page on security names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_each_promise_names_tests_that_exist() -> None:
    """A promise is a row of the table; a file named without its folder stands in the folder of the one before it."""
    text = (ROOT / "docs/security.md").read_text()
    rows = re.search(r"## What is promised\n(.*?)\n\n[^|]", text, re.DOTALL).group(1).strip().splitlines()[2:]
    assert len(rows) > 10
    for row in rows:
        folder, named = None, re.findall(r"`([\w/]*test_\w+\.py)`", row)
        assert named, f"no test is named for: {row}"
        for name in named:
            path = ROOT / name if "/" in name else folder / name
            assert path.is_file(), f"{row} names {name}, which does not exist"
            folder = path.parent
