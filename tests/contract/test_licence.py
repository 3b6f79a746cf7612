"""The project may be used: its licence is the standard text, its metadata and its wheel say so, and NOTICE names what
the shipped weights came from."""

import hashlib
import re
import tomllib
from pathlib import Path

import pytest
from setuptools.config.pyprojecttoml import read_configuration

PROJECT = Path(__file__).resolve().parents[2]
APACHE_2 = "1533979938dda1522969069f24f3701e"


def test_licence_is_the_standard_text():
    words = " ".join((PROJECT / "LICENSE").read_text(encoding="utf-8").split())
    assert (
        hashlib.md5(words.encode()).hexdigest() == APACHE_2
    )  # of www.apache.org/licenses/LICENSE-2.0.txt, white space aside


@pytest.mark.filterwarnings("ignore")
def test_metadata_is_complete():
    with (PROJECT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert project["license"] == "Apache-2.0" and project["authors"] == [{"name": "the guie developers"}]
    assert [name for name in project["license-files"] if not (PROJECT / name).is_file()] == [] and set(
        project["license-files"]
    ) == {"LICENSE", "NOTICE"}
    assert (
        (PROJECT / project["readme"]).is_file()
        and project["keywords"]
        and project["classifiers"]
        and "urls" not in project
    )
    assert not [
        line for line in project["classifiers"] if line.startswith("License ::")
    ]  # PEP 639 forbids them beside an SPDX expression
    assert (
        read_configuration(PROJECT / "pyproject.toml")["project"]["license"] == "Apache-2.0"
    )  # setuptools' own check of the whole table


def test_notice_names_every_source_of_the_shipped_weights():
    notice = (PROJECT / "NOTICE").read_text(encoding="utf-8")
    assert "weights/vit_tiny_drawn.safetensors" in notice and (PROJECT / "weights/vit_tiny_drawn.safetensors").is_file()
    told = (PROJECT / "weights/README.md").read_text(encoding="utf-8")
    n_drawn, n_real = re.search(r"([\d,]+) that the project draws.*?([\d,]+) training images", told, re.DOTALL).groups()
    assert n_drawn in notice and n_real in notice
    for name, licence in (
        ("MobileNetV2", "Apache License 2.0"), ("Grocery Store", "MIT License"), ("Clothing", "CC0 1.0"),
        ("Fruits-360", "CC BY-SA 4.0"), ("Noto Emoji", "Apache License 2.0"), ("Fluent Emoji", "MIT License"),
        ("FxEmoji", "CC BY 4.0"),
    ):  # fmt: skip
        entry = next(part for part in notice.split("* ") if name in part)
        assert licence in entry, name
