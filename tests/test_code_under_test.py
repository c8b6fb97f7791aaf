"""Tests run the code beside them, in this process and in all that they start, and never an installed copy."""

import subprocess
import sys
from pathlib import Path

from command_line import Process

import medgan_pl

ROOT = Path(__file__).resolve().parents[1]
WHERE = "import medgan_pl; print(medgan_pl.__file__)"


def test_every_process_runs_the_code_beside_the_tests(tmp_path: Path) -> None:
    wanted = ROOT / "medgan_pl" / "__init__.py"
    assert Path(medgan_pl.__file__) == wanted
    plain = subprocess.run([sys.executable, "-c", WHERE], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert Path(plain.stdout.strip()) == wanted
    (tmp_path / "where.py").write_text(WHERE)
    assert Process("where", within="", cwd=tmp_path, out=tmp_path / "out").wait() == 0
    assert Path((tmp_path / "out").read_text().strip()) == wanted
