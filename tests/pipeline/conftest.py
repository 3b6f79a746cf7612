"""The whole run that several files of tests look at."""

from pathlib import Path

import pytest
from opening import open_door

from guie.run import DOORS


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The finished run and what each door said."""
    out = tmp_path_factory.mktemp("house")
    return out / "tiny", [open_door(number, out, is_forked=True) for number in DOORS]
