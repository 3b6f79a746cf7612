"""Fixtures shared by all tests."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Limits this process to one thread if other test processes run beside it. With two busy thread pools on two cores
    it would be many times slower."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Runs the tests of one file in one process."""
    from spread import ByFile

    return ByFile(config, log)


@pytest.fixture(autouse=True)
def plain_log() -> Iterator[None]:
    """Resets the loggers before and after each test, because a door that runs in this process adds handlers to them."""
    _plain_log()
    yield
    _plain_log()


def _plain_log() -> None:
    guie, root = logging.getLogger("guie"), logging.getLogger()
    guie.handlers.clear()
    guie.propagate = True
    guie.setLevel(logging.NOTSET)
    root.handlers[:] = [handler for handler in root.handlers if not type(handler).__module__.startswith("guie.")]
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images beside the checkout; the test is skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"the real images are not here ({folder}); this test measures on them")
    return folder


@pytest.fixture(scope="session")
def shared_weights() -> Path:
    """The real pretrained backbone beside the checkout; the test is skipped where it is absent."""
    path = SHARED / "weights" / "mobilenetv2_100_imagenet.safetensors"
    if not path.is_file():
        pytest.skip(f"the real weights are not here ({path}); this test measures with them")
    return path
