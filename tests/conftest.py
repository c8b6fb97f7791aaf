"""Load what all tests share (shared.py), but only where tests run: the process of pytest-xdist that hands them out stays light."""

import atexit
import gc
import os
from pathlib import Path

import pytest

# Each process that a test starts runs the code beside the tests too, and not a copy that is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH"))))


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ or not config.getoption("tx", None):
        config.pluginmanager.import_plugin("shared")
    if "PYTEST_XDIST_WORKER" in os.environ:
        atexit.register(os._exit, 0)  # what it has to say is said: to take the libraries apart takes seconds


def pytest_collection_finish() -> None:
    gc.freeze()  # all libraries and tests stay to the end: the collector need not look at them again and again


def pytest_unconfigure() -> None:
    gc.unfreeze()
