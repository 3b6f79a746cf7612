"""What is attached to the notebook: the doors, data sets, weights; and the links by which the doors find them."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from guie.run import DOORS, PROJECT
from guie.settings.model import PICKLED
from guie.settings.recipe import Recipe

# Attached data lies in /kaggle/input/<set>, or in /kaggle/input/datasets/<owner>/<set>.
DEPTHS = ("*", "*/*", "*/*/*")


def attached(input_root: Path, name: str) -> list[Path]:
    """All paths called `name` in an attached folder.

    The search stops at the depths where Kaggle mounts data: below them lie millions of images.
    """
    return sorted({path for depth in DEPTHS for path in input_root.glob(f"{depth}/{name}")})


def find_project(input_root: Path) -> Path:
    """The folder of the doors: in an attached kit, otherwise the checkout that guie was imported from.

    Raises:
        FileNotFoundError: there is neither.
    """
    kits = [path.parents[1] for path in attached(input_root, f"project/{DOORS[4]}")]
    for project in (*kits, PROJECT):
        if (project / DOORS[4]).is_file():
            return project
    raise FileNotFoundError(f"no doors: attach the folder that notebooks/build_kit.py makes below {input_root}")


def has_weights(input_root: Path) -> bool:
    """Whether a library can fetch weights: from an attached cache of Hugging Face, or over the network."""
    if attached(input_root, "hf/hub"):
        return True
    try:
        with socket.create_connection(("huggingface.co", 443), timeout=5):
            return True
    except OSError:
        return False


def cache_variables(input_root: Path) -> dict[str, str]:
    """Variables that point the libraries to an attached cache of Hugging Face; empty without one."""
    caches = attached(input_root, "hf/hub")
    return {"HF_HOME": str(caches[0].parent), "HF_HUB_OFFLINE": "1"} if caches else {}


def data_folders(recipe: Recipe, input_root: Path, given: Mapping[str, str]) -> dict[str, Path]:
    """Where the recipe's data sets are attached, by the first part of their folder in the recipe.

    A data set that is not in `given` lies in a folder of the same name. Case and punctuation do not count.

    Args:
        recipe: Names the data sets.
        input_root: Where to look.
        given: Folders that the user named.
    """
    if recipe.data.drawn:
        return {}
    folders = [path for depth in DEPTHS for path in sorted(input_root.glob(depth)) if path.is_dir()]
    by_name = {_letters(path.name): path for path in reversed(folders)}  # the first of two with one name stays
    found = {}
    for source in recipe.data.sources:
        name = first_part(source.folder)
        path = Path(given[name]) if name in given else by_name.get(_letters(name))
        if path is not None and (path / Path(source.folder).relative_to(name)).is_dir():
            found[name] = path
    return found


def needed_folders(recipe: Recipe) -> set[str]:
    """The first parts of the folders of all data sets that the recipe reads."""
    return {first_part(source.folder) for source in recipe.data.sources}


def first_part(folder: str) -> str:
    """`grocery_store` of `grocery_store/dataset`."""
    return Path(folder).parts[0]


def weights_files(project: Path, input_root: Path, recipe: Recipe) -> list[Path]:
    """Files of pretrained backbones, attached and of the project, and the project's list of checksums.

    All safetensors files are listed. Of the files of torch.save, only those that the recipe names are.
    """
    pickled = {Path(model.weights_file).name for model in recipe.models if model.weights_file.endswith(PICKLED)}
    patterns = ["*.safetensors", *sorted(pickled)]
    theirs = [path for pattern in patterns for path in attached(input_root, pattern)]
    own = [path for pattern in patterns for path in sorted((project / "weights").glob(pattern))]
    return [*theirs, *own, project / "weights/SHA256SUMS"]


def link_data(folders: Mapping[str, Path], files: Sequence[Path]) -> Path:
    """Makes a data root outside the working folder: links to data sets under the recipe's names, and to weights."""
    root = Path(tempfile.mkdtemp(prefix="guie_data_"))
    for name, path in [*((path.name, path) for path in files), *folders.items()]:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(path.absolute())
    return root


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
