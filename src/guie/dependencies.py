"""What the result of each door depends on: fields of the recipe, versions of the code, results of earlier doors, files.

A door runs again when one of these changes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from typing import Any

from guie import versions
from guie.done import damages, fingerprint, outputs_digest, read_done, readers
from guie.files import digest_of_file
from guie.launch import device_kind
from guie.options import command
from guie.run import FOLDERS, FOREIGN, FOREIGN_COMPARED, FOREIGN_HEAD, FOREIGN_RECIPE, FOREIGN_SUMMARY, Run
from guie.settings.fit import FitWords
from guie.settings.names import OF_WEIGHTS, PRETRAINED
from guie.settings.recipe import Recipe
from guie.settings.stage import Stage
from guie.versions import CODE, DRAWING, EXTRACTION, MANIFESTS, PACKING

# The recipe fields that each door reads. Other fields do not make the door run again.
READS: dict[int, tuple[str, ...]] = {
    1: ("data.sources", "data.drawn", "data.max_bad_share", "seed"),
    2: (
        "data.sources",
        "data.drawn",
        "data.min_per_class",
        "data.max_per_class",
        "data.fill_per_class",
        "data.limits",
        "data.distractors",
        "data.licence",
        "data.val_by",
        "data.val_class_share",
        "data.val_fold",
        "seed",
    ),
    3: (
        "data.drawn",
        "data.pack_px",
        "data.pack_square",
        "data.pack_loose",
        "data.jpeg_quality",
        "data.shard_mb",
        "data.max_bad_share",
        "data.duplicate_bits",
    ),
    **dict.fromkeys((4, 5, 6), OF_WEIGHTS),
    7: ("model", "data.foreign_domain", "embed.settings", "embed.fit_on", "embed.precision", "embed.storage", "seed"),
    8: (
        "name",
        "model",
        "data.pack_px",
        "data.foreign_domain",
        "embed.settings",
        "embed.dim",
        "export",
        "seed",
    ),
    9: (),  # no names stand for the whole recipe, which the report shows
}
# The versions of the code that makes each door's results.
VERSIONS: dict[int, dict[str, int]] = {
    1: {"drawing": DRAWING, "manifests": MANIFESTS},
    3: {"packing": PACKING},
    **dict.fromkeys((4, 5, 6), versions.OF_WEIGHTS),
    7: {"extraction": EXTRACTION},
}
# The doors whose outputs each door reads.
EARLIER = {door: tuple(range(3, door)) for door in range(4, 9)}
INPUTS: dict[int, tuple[int, ...]] = {1: (), 2: (1,), 3: (2,), **EARLIER, 8: (2, *EARLIER[8]), 9: (2, *EARLIER[8], 8)}
LISTED = "csv_list"  # the kind of source whose files stand in a list
PHASES = {4: "head", 5: "backbone", 6: "highres"}
BACKBONE = ("start.model", "image_px", "patch_stride")  # of a stage: they decide how its backbone is built
# Of a stage: whether its weights were chosen by validation score, or by classes left out of training; door 07 says so.
CHOICES = ("validation.keeps_best", "left_out")


def reads(recipe: Recipe, number: int) -> tuple[str, ...]:
    """The recipe fields that door `number` reads, as paths.

    Doors 04 to 08 also read the stages that they train or use, and of the stages before those how the backbone is
    built. Door 07 also reads whether the weights of those stages were chosen by validation score.
    """
    if number in PHASES:
        used = {row.name for row in recipe.stages.of_phase(PHASES[number])}
    elif number in (7, 8):
        used = {member.stage for row in recipe.embed.settings for member in row.members} - {PRETRAINED}
    else:
        return READS[number]
    ancestors = recipe.behind(used) - used
    of_ancestors = (*BACKBONE, *(CHOICES if number == 7 else ()))
    paths = list(READS[number])
    for row in recipe.stages:
        if row.name in used or (row.name in ancestors and not isinstance(row, Stage)):
            paths.append(f"stages.{row.name}")
        elif row.name in ancestors:
            paths += [f"stages.{row.name}.{field}" for field in of_ancestors]
    return tuple(paths)


def settings_digest(recipe: Recipe, number: int) -> str:
    """One hash over the recipe fields that door `number` reads and the versions of the code that makes its results."""
    return recipe.digest(*reads(recipe, number), **VERSIONS.get(number, {}))


def read_values(recipe: Recipe, number: int) -> dict[str, Any]:
    """What `settings_digest` hashes, by name."""
    return recipe.values_of(reads(recipe, number)) | {CODE: VERSIONS.get(number, {})}


def input_digests(run: Run, number: int, arguments: argparse.Namespace) -> dict[str, str]:
    """What door `number` depends on beside the recipe, by name: digests of the results of earlier doors, of the raw
    images and of the pretrained weights, and for door 07 the device.

    Raises:
        ValueError: an earlier door has not finished with this recipe; the message names its command.
    """
    known: dict[int, str] = {}
    inputs = {FOLDERS[n]: _finished_digest(run, n, arguments, known) for n in INPUTS[number]}
    if number in (1, 3):
        inputs |= readers() | {"raw": _raw_digest(run)}
    if number >= 4:
        inputs["weights"] = _weights_digest(run, number)
    if number == 7 and (words := _words_digest(run)):
        inputs["words"] = words
    if number == 7:
        mark = read_done(run.out / FOLDERS[7]) or {"inputs": {}}
        recorded = mark["inputs"].get("device", "")
        inputs["device"] = recorded if arguments.device == "auto" else device_kind(arguments.device)
    if number == 9:
        compared = (folder.resolve() for folder in arguments.compare)
        inputs |= {f"--compare {folder}": outputs_digest(folder / FOLDERS[7]) for folder in compared}
        folders = (FOREIGN, FOREIGN_HEAD)
        names = [
            f"{folder}/{name}" for folder in folders for name in (FOREIGN_SUMMARY, FOREIGN_COMPARED, FOREIGN_RECIPE)
        ]
        inputs |= {name: digest_of_file(run.out / name) for name in names if (run.out / name).is_file()}
    return inputs


def _words_digest(run: Run) -> str:
    """Digests of the files of words that a PCA is fitted on; '' without any."""
    embed = run.recipe.embed
    if not any(isinstance(entry, FitWords) for row in embed.settings for entry in embed.fit_on_of(row)):
        return ""
    from guie.data.words import words_digest

    return words_digest(run)


def _weights_digest(run: Run, number: int) -> str:
    """Digests of the pretrained weights. Doors 08 and 09 read trained stages, as a rule, and do not need these files:
    where one is missing, the digests that door 07 noted count.

    Raises:
        FileNotFoundError: a file is missing, and door 07 has not finished or is the one that begins.
    """
    try:
        return run.weights_digest()
    except FileNotFoundError:
        mark = read_done(run.out / FOLDERS[7]) if number > 7 else None
        if mark is None or "weights" not in mark["inputs"]:
            raise
        return str(mark["inputs"]["weights"])


def late_digests(run: Run, number: int) -> dict[str, str]:
    """The inputs of door `number` that are known only when it ends: for door 01 the images that it drew, for door 07
    the device that was chosen."""
    if number == 1 and run.recipe.data.drawn is not None:
        return {"raw": _raw_digest(run)}
    return {"device": device_kind(run.device)} if number == 7 else {}


def check_inputs_whole(run: Run, number: int, arguments: argparse.Namespace) -> None:
    """Checks that the outputs of earlier doors are as they were written.

    Raises:
        ValueError: one is not; the message names the file and the command that makes it again.
    """
    for upstream in INPUTS[number]:
        folder = run.out / FOLDERS[upstream]
        mark = read_done(folder)
        for name, what in damages(folder, mark, run.verify).items() if mark else ():
            raise ValueError(f"{folder / name} {what}; make it again: {command(upstream, arguments)}")


def _finished_digest(run: Run, number: int, arguments: argparse.Namespace, known: dict[int, str]) -> str:
    """The digest of door `number`'s outputs.

    Args:
        run: The run that the door belongs to.
        number: The door.
        arguments: The options, for the command in error messages.
        known: Digests found so far, by door; the new one is added.

    Raises:
        ValueError: the door has not finished with this recipe and these inputs; the message names its command.
    """
    if number in known:
        return known[number]
    folder = run.out / FOLDERS[number]
    mark = read_done(folder)
    if mark is None:
        raise ValueError(f"{folder} is not finished; first run: {command(number, arguments)}")
    upstreams = {upstream: _finished_digest(run, upstream, arguments, known) for upstream in INPUTS[number]}
    if mark["settings"] != settings_digest(run.recipe, number):
        raise ValueError(
            f"{folder} was made with other settings of the recipe; run it again: {command(number, arguments)}"
        )
    for upstream, digest in upstreams.items():
        if mark["inputs"].get(FOLDERS[upstream]) != digest:
            raise ValueError(
                f"{folder} was made from an older {FOLDERS[upstream]}; run it again: {command(number, arguments)}"
            )
    known[number] = outputs_digest(folder)
    return known[number]


def _raw_digest(run: Run) -> str:
    """One hash over the raw images. Of a list, the listed files count, not all that lies below their folder: that may
    be a link to a whole disk."""
    listed = [source.folder for source in run.recipe.data.sources if source.kind == LISTED]
    whole = fingerprint(run.images_root, (source.folder for source in run.recipe.data.sources if source.kind != LISTED))
    if not listed:
        return whole
    from guie.data.sources.csv_list import files_of  # pandas: not for the other doors

    sha = hashlib.sha256(whole.encode())
    for folder in listed:
        for path in files_of(run.images_root / folder):
            sha.update(f"{_state(path)} {os.path.relpath(path, run.images_root)}\n".encode("utf-8", "surrogateescape"))
    return sha.hexdigest()[:16]


def _state(path: str) -> str:
    """Size and time of a file; '' where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size} {status.st_mtime_ns}"
