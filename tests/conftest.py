"""Fixtures shared by all tests."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


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
