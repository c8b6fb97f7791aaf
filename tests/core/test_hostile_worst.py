"""What the worst of the hostile files cost to refuse."""

import json
import os
import subprocess
import sys

import hostile_files as make
import pytest
from test_hostile import SKIPPED, WORST

MEASURE = """
import json, os, sys, time
from pathlib import Path
from hostile_files import read
cases = json.loads(sys.argv[1])
for kind, root in cases[:3]:
    read(kind, Path(root))  # whatever is imported when first needed
for kind, root in cases:
    started = time.monotonic()
    child = os.fork()
    if not child:
        try:
            said = list(read(kind, Path(root)).unusable.values())
        except BaseException as error:
            said = repr(error)
        print(json.dumps(said), flush=True)
        os._exit(0)
    _, status, usage = os.wait4(child, 0)
    print(json.dumps([status, usage.ru_maxrss, time.monotonic() - started]), flush=True)
"""


@pytest.mark.slow
def test_the_worst_take_less_than_10_s_and_2_gib(tmp_path):
    cases = []
    for i, (name, kind, maker, _) in enumerate([(kind, kind, lambda root: None, None) for kind in ("ct", "mri", "xray")] + WORST):
        make.write_good(kind, tmp_path / f"{i}")
        maker(tmp_path / f"{i}")
        cases.append((name, kind, str(tmp_path / f"{i}")))
    place = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps([case[1:] for case in cases])], env=place, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    measured = {name: (said, *numbers) for (name, *_), said, numbers in zip(cases, lines[::2], lines[1::2], strict=True)}
    usual = max(measured[kind][2] for kind in ("ct", "mri", "xray"))
    for name, (said, status, kib, seconds) in measured.items():
        told = f"{name}: {(kib - usual) / 1024:.0f} MiB more than sound scans, {seconds:.1f} s, exit {status}, {said}"
        assert status == 0, told
        assert isinstance(said, list), told
        assert len(said) == (name in SKIPPED), told
        assert kib - usual < 2 * 2**20, told
        assert seconds < 10, told
