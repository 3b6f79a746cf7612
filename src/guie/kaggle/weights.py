"""The weights that a recipe's backbones start from: found among what is attached, or refused before the first door."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guie.data.kaggle_copy import linked_folder
from guie.kaggle.choice import SMALL
from guie.kaggle.inputs import attached
from guie.settings.model import PICKLED, Model
from guie.settings.recipe import Recipe

FORMS = "open_clip_pytorch_model.bin, a .safetensors file or a Hugging Face folder"
N_TOLD = 2  # files that do not fit, by name


@dataclass(frozen=True)
class Weights:
    """Where the backbones of a recipe come from.

    Attributes:
        sets: Changed fields, as `--set` takes them, that name the files.
        files: The files, by their names in the data root.
    """

    sets: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)


def find_weights(
    recipe: Recipe,
    input_root: Path,
    project: Path,
    given: Sequence[str | Path] | None = None,
    skipped: Iterable[Path] = (),
    has_begun: bool = False,
) -> Weights:
    """Finds the weights of all backbones of a recipe that start from any.

    A file that the recipe names is taken by its name. Weights of a tag come from an attached cache of Hugging Face.
    Otherwise the attached files are searched for one whose tensors have the names and shapes of the network; the
    recipe's own words for the tag are replaced by that file. Where there is none, a tag is fetched over the network.

    Args:
        recipe: Names its backbones.
        input_root: What is attached.
        project: The folder of the doors; `weights/` in it holds files, too.
        given: Files and folders to look in, and nowhere else; None searches all that is attached.
        skipped: Attached folders that need not be searched: the data sets, or folders of links to them.
        has_begun: Whether the run that goes on was begun with the recipe's own words. Then no file replaces a tag: it
            would be another setting, which the doors refuse.

    Raises:
        FileNotFoundError: weights are missing; the message says what was looked for and where.
        ValueError: several files fit.
    """
    places = [input_root] if given is None else _existing(given)
    data_sets = [linked_folder(folder) for folder in skipped]
    sets: list[str] = []
    files: dict[str, Path] = {}
    for model in recipe.models:
        if not model.weights or (given is None and _is_at_hand(model, input_root, project)):
            continue
        can_be_fetched = bool(given is None and model.weights_tag)
        if can_be_fetched and has_begun:
            _check_online(recipe, model)
            continue
        found, why_none = _file_for(recipe.name, model, places, data_sets)
        if found is None:
            if not (can_be_fetched and is_online()):
                online = ", or switch the internet on" if can_be_fetched else ""
                raise FileNotFoundError(
                    f"{why_none}; attach {FORMS} of them{online}; or name another RECIPE: {SMALL} needs none"
                )
            continue
        if model.weights_file:
            files[Path(model.weights_file).name] = found
        else:
            name = f"{Path(model.name).name}{_ending(found)}"
            files[name] = found
            sets += [f"{path}.weights={name}" for path in _paths(recipe, model)]
        print(f"weights    of {model.name}: {found}")
    return Weights(tuple(sets), files)


def _existing(given: Sequence[str | Path]) -> list[Path]:
    """The paths that the first cell names; raises FileNotFoundError if one does not exist."""
    if missing := [str(place) for place in given if not Path(place).exists()]:
        raise FileNotFoundError(f"WEIGHTS names {', '.join(missing)}, which is not attached")
    return [Path(place) for place in given]


def _check_online(recipe: Recipe, model: Model) -> None:
    """Raises FileNotFoundError if the weights of a tag, with which a run began, cannot be fetched."""
    if not is_online():
        raise FileNotFoundError(
            f"the attached run of {recipe.name} began with {model.weights} of {model.library}'s {model.name}, which is "
            "fetched; switch the internet on, or attach the kit with its cache"
        )


def is_online() -> bool:
    """Whether Hugging Face can be reached."""
    try:
        with socket.create_connection(("huggingface.co", 443), timeout=5):
            return True
    except OSError:
        return False


def _is_at_hand(model: Model, input_root: Path, project: Path) -> bool:
    """Whether the weights are found without looking into files: by the name of the file, or in an attached cache."""
    if name := model.weights_file:
        own = [Path(name), project / "weights" / name]
        return any(path.is_file() for path in own) or bool(attached(input_root, Path(name).name))
    repository = _repository(model)
    folder = f"hf/hub/models--{repository.replace('/', '--')}/snapshots"
    return any(any(path.glob("*/*")) for path in attached(input_root, folder)) if repository else False


def _repository(model: Model) -> str:
    """`owner/name` on the hub of a model's tag; '' if the library knows none."""
    if model.library == "timm":
        import timm

        settings = timm.get_pretrained_cfg(f"{model.name}.{model.weights_tag}", allow_unregistered=False)
        return (settings.hf_hub_id or "") if settings else ""
    import open_clip

    return str((open_clip.get_pretrained_cfg(model.name, model.weights_tag) or {}).get("hf_hub", "")).rpartition("/")[0]


def _file_for(recipe: str, model: Model, places: Sequence[Path], skipped: Sequence[Path]) -> tuple[Path | None, str]:
    """The one file below `places` that fits; without one None, and what was looked for and found instead.

    Raises:
        ValueError: there are several.
    """
    from guie.model.found_weights import fitting_files, weights_in

    wanted = weights_in(places, skipped)
    if model.weights_file:  # its name says how it is read
        is_pickled = model.weights_file.endswith(PICKLED)
        wanted = [path for path in wanted if path.name.endswith(PICKLED) == is_pickled]
    fitting, reasons = fitting_files(model, wanted)
    where = ", ".join(map(str, places)) or "no folder"
    what = f"{recipe} needs weights of {model.library}'s {model.name} ({model.weights})"
    if len(fitting) > 1:
        names = ", ".join(map(str, fitting))
        raise ValueError(f"{what}, and several files below {where} fit: {names}; name one in WEIGHTS")
    return (fitting[0], "") if fitting else (None, f"{what}, and {_why_none(reasons)} below {where}")


def _why_none(reasons: Mapping[Path, str]) -> str:
    """What was found instead, in a few words."""
    if not reasons:
        return "there is no file of weights"
    told = [f"{path.parent.name}/{path.name}: {reason[:200]}" for path, reason in list(reasons.items())[:N_TOLD]]
    more = f"; and {len(reasons) - N_TOLD} more" if len(reasons) > N_TOLD else ""
    return f"none of {len(reasons)} files fits ({'; '.join(told)}{more})"


def _ending(path: Path) -> str:
    """The ending by which the file is read."""
    longest_first = sorted(PICKLED, key=len, reverse=True)
    return next((ending for ending in longest_first if path.name.endswith(ending)), path.suffix)


def _paths(recipe: Recipe, model: Model) -> Iterable[str]:
    """The paths of the settings that are this model, alone or beside another."""
    own = [(f"stages.{stage.name}.start.model", stage.start.model) for stage in recipe.stages.trained]
    for path, found in [("model", recipe.model), *own]:
        for i, each in enumerate(found.each if found else ()):
            if each == model:
                yield f"{path}.beside.{each.name}" if i else path
