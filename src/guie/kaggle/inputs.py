"""What is attached to the notebook: the doors, data sets, weights; and the links by which the doors find them."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from guie.data.catalogue import KaggleCopy, known_sets
from guie.data.kaggle_copy import folder_of, link_copy
from guie.run import DOORS, PROJECT
from guie.settings.data import Source
from guie.settings.fields import nearest
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


def cache_variables(input_root: Path) -> dict[str, str]:
    """Variables that point the libraries to an attached cache of Hugging Face; empty without one."""
    caches = attached(input_root, "hf/hub")
    return {"HF_HOME": str(caches[0].parent), "HF_HUB_OFFLINE": "1"} if caches else {}


def data_folders(recipe: Recipe, input_root: Path, given: Mapping[str, str]) -> dict[str, Path]:
    """Where the recipe's data sets are attached, by the first part of their folder in the recipe.

    A data set that is not in `given` lies in a folder of the same name, or of the name of its copy on Kaggle. Case and
    punctuation do not count. A folder in the copy's layout is linked under the names that the set's reader expects,
    whatever it is called: a set's own name may be that of its copy.

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
        path = _folder_of(source, Path(given[name]) if name in given else None, by_name)
        if path is not None and (path / Path(source.folder).relative_to(name)).is_dir():
            found[name] = path
    return found


def _folder_of(source: Source, given: Path | None, by_name: Mapping[str, Path]) -> Path | None:
    """The folder of a data set, or one of links to its copy; None if it is not attached, or is a copy in another layout
    than is known.

    Args:
        source: The data set.
        given: The folder that the user named; None looks for it by name.
        by_name: The attached folders.
    """
    own = given or by_name.get(_letters(first_part(source.folder)))
    known = known_sets().get(source.kind)
    copy = known.kaggle if known else None
    if copy is None:
        return own
    folder = own or by_name.get(_letters(_name_of(copy)))
    if folder is None or not _may_be_copy(folder, copy):
        return own
    try:
        found = folder_of(copy, folder)
    except ValueError as error:
        if own is None:
            print(f"data set   {source.name}: {error}")
        return own  # in the layout of the set's reader, which door 01 checks
    place = Path(tempfile.mkdtemp(prefix="guie_copy_")) / first_part(source.folder)
    link_copy(copy, found, place)
    return place


def _name_of(copy: KaggleCopy) -> str:
    """The name of the folder in which Kaggle attaches a copy."""
    return copy.handle.rpartition("/")[2]


def _may_be_copy(folder: Path, copy: KaggleCopy) -> bool:
    """Whether a folder has the name of a copy, or holds at its top what the copy holds.

    The folders below one of another name are not searched: they may hold hundreds of thousands of images.
    """
    has_name = _letters(folder.name) == _letters(_name_of(copy))
    return folder.is_dir() and (has_name or all((folder / name).exists() for _, name in copy.holds))


def sets_of_sources(recipe: Recipe, names: Sequence[str]) -> tuple[str, ...]:
    """The changed fields, as `--set` takes them, with which a recipe reads some of its data sets alone.

    Args:
        recipe: Names its data sets.
        names: Of data sets: the recipe's name, or the first part of the folder. Case and punctuation do not count. Of
            none, no field is changed.

    Raises:
        ValueError: the recipe does not read a set of that name, or a stage trains on none of those that are left.
    """
    if not names:
        return ()
    known = {_letters(word): s.name for s in recipe.data.sources for word in (first_part(s.folder), s.name)}
    for name in names:
        if _letters(name) not in known:
            own = [source.name for source in recipe.data.sources]
            raise ValueError(f"SETS names {name!r}, which {recipe.name} does not read; {nearest(name, own)}")
    kept = [source.name for source in recipe.data.sources if source.name in {known[_letters(name)] for name in names}]
    limits = [limit.name for limit in recipe.data.limits if limit.name in kept]
    distractors = [name for name in recipe.data.distractors if name in kept]
    sets = [("data.sources", kept), ("data.limits", limits), ("data.distractors", distractors)]
    for stage in recipe.stages.trained:
        own = [name for name in stage.sources if name in kept]
        if stage.sources and not own:
            raise ValueError(f"SETS leaves out {', '.join(stage.sources)}, all that the stage {stage.name} trains on")
        sets += [(f"stages.{stage.name}.sources", own)] if stage.sources else []
    return tuple(f"{path}={','.join(values)}" for path, values in sets)


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


def link_data(folders: Mapping[str, Path], files: Sequence[Path], named: Mapping[str, Path] | None = None) -> Path:
    """Makes a data root outside the working folder: links to data sets under the recipe's names, and to weights.

    Args:
        folders: Data sets, by their names in the data root.
        files: Files of weights, which keep their names.
        named: Further files, by their names in the data root.
    """
    root = Path(tempfile.mkdtemp(prefix="guie_data_"))
    for name, path in [*((path.name, path) for path in files), *(named or {}).items(), *folders.items()]:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(path.absolute())
    return root


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
