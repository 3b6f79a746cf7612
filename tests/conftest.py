"""Fixtures shared by all tests."""

import gc
import logging
import os
import random
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread in this process and in those that it starts: with two busy thread pools on two cores both would be many
    # times slower. It must be set before NumPy or torch is imported.
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Runs the tests of one file in one process."""
    from spread import ByFile

    return ByFile(config, log)


def pytest_collection_finish() -> None:
    """Leaves what the collection made out of later garbage collections: a million objects, which live to the end."""
    gc.freeze()


@pytest.fixture(autouse=True)
def own_seeds(request: pytest.FixtureRequest) -> None:
    """What a test function draws follows from its name, not from the tests that ran before it in this process. Fixtures
    of wider scope seed themselves."""
    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed)
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(seed)


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


@pytest.fixture(scope="session")
def packed_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world's run with doors 01 to 03 done, which nobody may change: see `small_world.copied`."""
    from small_world import pack_world

    return pack_world(tmp_path_factory.mktemp("world"))
