"""Pretrained image networks ("towers") by a short name: the shipped one, weights files, tags of timm and open_clip.

A tower is written as one of
  shipped                         the project's own small ViT
  path/to/file.safetensors        a file of weights whose network is known, see `tower_of_file`
  timm:NAME=path/to/file          a file of weights for a network of timm
  timm:NAME.TAG                   weights that timm fetches
  open_clip:NAME:TAG              weights that open_clip fetches
and may end in @PX, the side of the square that it sees: timm:vit_small_patch14_dinov2.lvd142m@224.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from guie.recipe import load_recipe
from guie.run import PROJECT
from guie.settings.model import PICKLED, PRETRAINED_TAG, Model

SHIPPED = "shipped"
SHIPPED_PX = 224  # weights/README.md: mP@5 .475 on real classes, .455 at 112 px
MIN_PX = 16
MAX_PX = 4096
# All under Apache-2.0. DINOv2 and TIPSv2 were made for 518 and 448 px, which takes five times as long on a CPU; their
# position embeddings are interpolated. On UnED, TIPS is better at low resolution (github.com/google-deepmind/tips).
TAGS = (
    "timm:vit_base_patch16_siglip_224.v2_webli",
    "timm:vit_pe_core_base_patch16_224.fb",
    "timm:vit_small_patch14_dinov2.lvd142m@224",
    "timm:vit_base_patch14_reg1_tipsv2.webli@224",
)
UNKNOWN = "not known"
# Of open_clip's weights, by the beginning of their tag; timm states each licence itself.
OPEN_CLIP_LICENCES = {
    "webli": "apache-2.0",
    "meta": "apache-2.0",
    "laion": "mit",
    "openai": "mit",
    "datacomp": "mit",
    "merged2b": "mit",
    "dfn": "apple-ascl",
    "dfndr": "apple-amlr",
    "datacompdr": "apple-ascl",
    "metaclip": "cc-by-nc-4.0",
}
RECIPES = ("demo", "minibench")  # their models say which network their files of weights are for
ENDINGS = (".safetensors", *PICKLED)


@dataclass(frozen=True)
class Tower:
    """A pretrained network.

    Attributes:
        name: As it was written.
        model: Which network, and how its pixels are normalised.
        image_px: Side of the square that it sees.
        licence: Of the weights, as SPDX writes it where there is such a name.
        weights: The file; None where the library fetches it.
    """

    name: str
    model: Model
    image_px: int
    licence: str
    weights: Path | None = None

    @property
    def short(self) -> str:
        """The name for a narrow table: without library, folder and @PX."""
        if self.name.partition("@")[0] == SHIPPED:
            return "shipped ViT"
        if self.weights is not None:
            return self.weights.stem if self.model.name in self.weights.stem else self.model.name
        return self.model.name


@dataclass(frozen=True)
class Refused:
    """A tower that cannot be had, and why, in one line."""

    name: str
    reason: str

    @property
    def sentence(self) -> str:
        """The first sentence of the reason: without the remedy for a recipe, which is not written here."""
        return self.reason.partition(". ")[0]


def towers(texts: Iterable[str], folders: Iterable[Path]) -> list[Tower | Refused]:
    """The towers that `--towers` asks for. The word `default` stands for the shipped one, all files of weights in
    `folders`, and `TAGS`.

    Args:
        texts: As in the module's text.
        folders: Where weights may lie.
    """
    names: list[str] = []
    places = list(folders)
    for text in texts:
        names += [SHIPPED, *map(str, weights_in(places)), *TAGS] if text == "default" else [text]
    found: list[Tower | Refused] = []
    for name in dict.fromkeys(names):
        try:
            found.append(tower(name, places))
        except (ValueError, OSError) as error:
            found.append(Refused(name, str(error)))
    return found


def weights_in(folders: Iterable[Path]) -> Iterator[Path]:
    """Files of weights in some folders, but for the shipped one."""
    for folder in dict.fromkeys(path.resolve() for path in folders):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if path.name.endswith(ENDINGS) and path.is_file() and path != shipped_weights():
                yield path


def shipped_weights() -> Path:
    """The file of the shipped ViT."""
    return PROJECT / "weights" / load_recipe("demo").model.weights


def tower(text: str, folders: Iterable[Path] = ()) -> Tower:
    """The tower that a text names; see the module's text.

    Args:
        text: Of one tower.
        folders: Where files of weights are looked for, if the text is a file's name alone.

    Raises:
        ValueError: there is no such tower; the message says what is known.
    """
    text = text.strip()
    written, px = _without_px(text)
    library, _, rest = written.partition(":")
    if written == SHIPPED:
        found = Tower(SHIPPED, load_recipe("demo").model, SHIPPED_PX, "apache-2.0", shipped_weights())
    elif library in ("timm", "open_clip") and rest:
        found = _of_library("timm" if library == "timm" else "open_clip", rest, folders)
    elif written.endswith(ENDINGS):
        found = tower_of_file(_file(written, folders))
    else:
        raise ValueError(
            f"--towers {text!r} is no tower; write {SHIPPED}, a file of weights, timm:NAME.TAG, timm:NAME=FILE or "
            "open_clip:NAME:TAG"
        )
    return replace(found, name=text, image_px=px or found.image_px)


def _without_px(text: str) -> tuple[str, int]:
    """The text before @PX, and PX; 0 where it is absent.

    Raises:
        ValueError: PX is out of its range.
    """
    match = re.fullmatch(r"(.+)@(\d+)", text)
    if not match:
        return text, 0
    px = int(match[2])
    if not MIN_PX <= px <= MAX_PX:
        raise ValueError(f"--towers {text!r}: {px} px, must be {MIN_PX} to {MAX_PX}")
    return match[1], px


def _file(text: str, folders: Iterable[Path]) -> Path:
    """A file of weights, here or in one of the folders.

    Raises:
        ValueError: there is none; the message lists the places.
    """
    places = [Path(text).expanduser(), *(folder / text for folder in folders)]
    for place in places:
        if place.is_file():
            return place.resolve()
    raise ValueError(f"weights {text} are in none of: {', '.join(map(str, places))}")


def _of_library(library: Literal["timm", "open_clip"], rest: str, folders: Iterable[Path]) -> Tower:
    """A tower of timm or open_clip, with a tag or with a file of weights.

    Raises:
        ValueError: the library has no such name, or no weights for it.
    """
    name, is_file, file = rest.partition("=")
    if is_file:
        path = _file(file, folders)
        model = Model(library, name, str(path))
        return Tower(rest, model, _input_px(library, name, ""), UNKNOWN, path)
    name, _, tag = rest.partition("." if library == "timm" else ":")
    tag = tag or _default_tag(library, name)
    model = Model(library, name, f"{PRETRAINED_TAG}{tag}")
    return Tower(rest, model, _input_px(library, name, tag), _licence(library, name, tag))


def tower_of_file(path: Path) -> Tower:
    """The tower of a file of weights that says which network it is for.

    It does so by being the file of a recipe, by timm's `config.json` beside it, or by its name: it begins with the name
    of a network of timm.

    Raises:
        ValueError: it does not.
    """
    for recipe in RECIPES:
        model = load_recipe(recipe).model
        if path.name == model.weights_file:
            return Tower(path.name, model, SHIPPED_PX, "apache-2.0", path)
    name = _configured(path.with_name("config.json")) or _by_name(path.name)
    if not name:
        raise ValueError(f"which network {path.name} is for cannot be told; write timm:NAME={path.name}")
    return Tower(path.name, Model("timm", name, str(path)), _input_px("timm", name, ""), UNKNOWN, path)


def _configured(config: Path) -> str:
    """The network that timm's configuration on the hub names; '' where there is none."""
    try:
        name = json.loads(config.read_text(encoding="utf-8")).get("architecture", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return name if isinstance(name, str) else ""


def _by_name(file: str) -> str:
    """The longest name of a network of timm that the file's name begins with; '' where there is none."""
    import timm

    stem = file.lower().replace("-", "_")
    fitting = [name for name in timm.list_models() if re.match(rf"{re.escape(name)}(?![a-z0-9])", stem)]
    return max(fitting, key=len, default="")


@functools.cache
def _config(library: str, name: str, tag: str) -> dict[str, Any]:
    """px and licence that the library states, and the tag that is taken if none is named.

    Raises:
        ValueError: it has no such name or tag.
    """
    return _of_timm(name, tag) if library == "timm" else _of_open_clip(name, tag)


def _of_timm(name: str, tag: str) -> dict[str, Any]:
    import timm

    if not timm.is_model(name):
        raise ValueError(f"timm has no network {name!r}{_like(name, timm.list_models(), 'timm.list_models()')}")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise ValueError(f"timm has no weights {tag!r} for {name}{_like(tag, tags, 'timm.list_pretrained()')}")
    stated = timm.get_pretrained_cfg(f"{name}.{tag}" if tag else name)
    if stated is None:
        return {"px": 224, "licence": UNKNOWN, "tag": ""}
    return {"px": stated.input_size[-1], "licence": stated.license or UNKNOWN, "tag": stated.tag}


def _of_open_clip(name: str, tag: str) -> dict[str, Any]:
    import open_clip

    config = open_clip.get_model_config(name)
    if config is None:
        raise ValueError(
            f"open_clip has no network {name!r}{_like(name, open_clip.list_models(), 'open_clip.list_models()')}"
        )
    tags = open_clip.list_pretrained_tags_by_model(name)
    if tag and tag not in tags:
        raise ValueError(
            f"open_clip has no weights {tag!r} for {name}{_like(tag, tags, 'open_clip.list_pretrained()')}"
        )
    fitting = [start for start in OPEN_CLIP_LICENCES if tag and tag.startswith(start)]
    side = config["vision_cfg"].get("image_size", 224)
    return {
        "px": side if isinstance(side, int) else side[0],
        "licence": OPEN_CLIP_LICENCES[max(fitting, key=len)] if fitting else UNKNOWN,
        "tag": next((known for known in tags if _has_activation_of(name, known)), tags[0] if tags else ""),
    }


def _has_activation_of(name: str, tag: str) -> bool:
    """Whether weights of open_clip were trained with the network's own activation; others are refused later."""
    import open_clip

    settings = (open_clip.get_pretrained_cfg(name, tag), open_clip.get_model_config(name))
    wanted, own = (bool((values or {}).get("quick_gelu")) for values in settings)
    return wanted == own


def _like(name: str, known: Iterable[str], source: str) -> str:
    """The known names that are like `name`; where there is none, the call that lists all."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; similar: {', '.join(close)}" if close else f"; {source} lists all"


def _default_tag(library: str, name: str) -> str:
    tag = str(_config(library, name, "")["tag"])
    if not tag:
        raise ValueError(f"{library} has no weights for {name}; name a file: {library}:{name}=FILE")
    return tag


def _input_px(library: str, name: str, tag: str) -> int:
    return int(_config(library, name, tag)["px"])


def _licence(library: str, name: str, tag: str) -> str:
    return str(_config(library, name, tag)["licence"])
