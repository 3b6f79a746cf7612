"""What every door does before its one call: parse, load the recipe, open the run, seed, skip when done, call, mark
done."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from guie.done import (
    damages,
    fingerprint,
    is_done,
    locked,
    mark_done,
    other_code,
    outputs_digest,
    read_done,
    readers,
    remove_damaged,
    renew_states,
)
from guie.errors import run_to_the_end
from guie.files import sweep
from guie.machine import check_names, check_writable, n_cores
from guie.recipe import load_recipe
from guie.run import (
    DOORS,
    FOLDERS,
    Run,
    clear,
    default_out,
    keep_freed_memory,
    save_recipe,
    seed_everything,
    set_up_logging,
)
from guie.settings.names import PRETRAINED
from guie.settings.recipe import Recipe
from guie.settings.stage import Soup
from guie.versions import AUGMENTATION, DRAWING, EXTRACTION, MANIFESTS, PACKING

log = logging.getLogger(__name__)
Work = Callable[..., dict[str, Any]]

VALIDATION = ("data.val_by", "data.val_class_share", "data.val_fold")
# The recipe fields each door reads: a change elsewhere does not run it again.
READS: dict[int, tuple[str, ...]] = {
    1: ("data.sources", "data.drawn", "data.max_bad_share", "seed"),
    2: (
        *(
            f"data.{name}"
            for name in (
                "sources",
                "drawn",
                "min_per_class",
                "max_per_class",
                "fill_per_class",
                "limits",
                "distractors",
                "licence",
            )
        ),
        *VALIDATION,
        "seed",
    ),
    3: (
        *(
            f"data.{name}"
            for name in (
                "drawn",
                "pack_px",
                "pack_square",
                "pack_loose",
                "jpeg_quality",
                "shard_mb",
                "max_bad_share",
                "duplicate_bits",
            )
        ),
    ),
    **dict.fromkeys((4, 5, 6), ("model", "data.limits", "embed.precision", "embed.storage", "seed")),
    7: ("model", "embed.settings", "embed.precision", "embed.storage", "seed"),
    8: ("name", "model", "data.pack_px", "embed.settings", "export", "seed"),
    9: (),  # none named: the whole recipe, which the report shows
}
# The versions of the code whose results each door writes.
VERSIONS: dict[int, dict[str, int]] = {
    1: {"drawing": DRAWING, "manifests": MANIFESTS},
    3: {"packing": PACKING},
    **{door: {"augmentation": AUGMENTATION, "extraction": EXTRACTION} for door in (4, 5, 6)},
    7: {"extraction": EXTRACTION},
}
# The doors whose outputs each door reads.
EARLIER = {door: tuple(range(3, door)) for door in range(4, 9)}
INPUTS: dict[int, tuple[int, ...]] = {1: (), 2: (1,), 3: (2,), **EARLIER, 8: (2, *EARLIER[8]), 9: (2, *EARLIER[8], 8)}
BACKBONE = ("start.model", "image_px", "patch_stride")  # how a stage's backbone is built, before its weights are loaded
CHOICES = ("validation.keeps_best",)  # of such a stage: what was chosen on validation, which door 07 notes
COMPUTES = range(4, 9)  # the doors that need torch; the others start without it
PHASES = {4: "head", 5: "backbone", 6: "highres"}


def parser(description: str | None, number: int = 0) -> argparse.ArgumentParser:
    """The options that all doors share, and those of door `number` alone."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--recipe",
        default="demo",
        help="a recipe in src/guie/recipes/, or the path of a .py file that defines RECIPE (default: %(default)s)",
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="change one field, e.g. --set stages.s1_head.optim.n_epochs=5; repeatable",
    )
    p.add_argument(
        "--licence",
        dest="set",
        action="append",
        type="data.licence={}".format,
        metavar="{any,commercial}",
        help="the same as --set data.licence=...: commercial keeps only data sets whose licence is known to allow it",
    )
    p.add_argument(
        "--data-root",
        type=Path,
        default=Path(os.environ.get("GUIE_DATA", "data")),
        help="folder of the raw data sets (default: GUIE_DATA or ./data)",
    )
    p.add_argument(
        "--out",
        type=Path,
        default=default_out(),
        help="where artifacts/<recipe>/ is written (default: GUIE_OUT or artifacts/)",
    )
    p.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto: the first accelerator, else the CPU")
    p.add_argument(
        "--scheduler",
        default="",
        metavar="ADDRESS",
        help="doors 01 and 03: check and pack on the workers of this dask.distributed scheduler",
    )
    p.add_argument("--force", action="store_true", help="do it again even if it is done")
    p.add_argument(
        "--verify",
        action="store_true",
        help="compare the bytes of what is done with those that were written, not sizes and times alone",
    )
    if number == 9:
        p.add_argument(
            "--compare",
            type=Path,
            nargs="+",
            action="extend",
            default=[],
            metavar="FOLDER",
            help="other finished runs to set beside this one",
        )
    return p


def open_door(number: int, doc: str | None, work: Work | str, argv: Sequence[str] | None = None, **words: Any) -> int:
    """Runs door `number`: `work(run, **words)` unless its result is there already.

    Args:
        number: 1 to 9.
        doc: The door's docstring, shown by --help.
        work: Takes the run, writes the door's folder, returns metrics for `done.json`; or where it is, as
            "module:function", which is imported when there is work to do: a finished door and --help answer in a
            quarter of a second.
        argv: The arguments, without the program's name; None takes the process' own.
        words: Further arguments of `work`.

    Returns:
        The exit status, after one line where something failed: see `guie.errors`.
    """
    arguments = parser(doc, number).parse_args(argv)
    goes_on = f"to go on: {command(number, arguments)}"
    return run_to_the_end(
        lambda: _run_door(number, work, words, arguments), f"door {number:02d}", arguments.out, goes_on
    )


def _of_launcher(name: str, default: int) -> int:
    """RANK or WORLD_SIZE as torchrun sets them, or under the names of MPICH and Intel MPI, Open MPI, MVAPICH.

    Raises:
        ValueError: the variable holds no whole number.
    """
    mpi = name.removeprefix("WORLD_")
    names = (name, f"PMI_{mpi}", f"OMPI_COMM_WORLD_{mpi}", f"MV2_COMM_WORLD_{mpi}")
    variable = next((name for name in names if name in os.environ), "")
    if not re.fullmatch(r"\d+", os.environ.get(variable, "0")):
        raise ValueError(f"the environment has {variable}={os.environ[variable]!r}, which is no whole number; unset it")
    return int(os.environ.get(variable, default))


def _processes() -> tuple[bool, int]:
    """Whether this process keeps the run's folder, which the first of several does, and how many processes there are.

    A rank without a number of processes is a rest of another program: this process is alone, as accelerate also takes
    it.
    """
    n = _of_launcher("WORLD_SIZE", 1)
    return n <= 1 or _of_launcher("RANK", 0) == 0, max(1, n)


def _run_of(arguments: argparse.Namespace) -> Run:
    """The run that the options describe; its device is chosen later.

    Raises:
        ValueError: the recipe or the device is none, or a path has a name that cannot be used.
        FileNotFoundError: the recipe's file does not exist.
    """
    recipe = load_recipe(arguments.recipe, arguments.set)
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", arguments.device):
        raise ValueError(f"--device {arguments.device!r} is no device; use cpu, cuda, cuda:N or auto")
    data_root = arguments.data_root.resolve()
    check_names(out=arguments.out.resolve(), **{"data-root": data_root})
    out = (arguments.out / recipe.name).resolve()
    return Run(recipe, data_root, out, scheduler=arguments.scheduler, verify=arguments.verify)


def _tell_begin(run: Run, number: int, n_processes: int, arguments: argparse.Namespace) -> None:
    """Logs which door is opened for what, and warns of options that have no effect."""
    recipe = run.recipe
    log.info("door %02d  %s  recipe %s  seed %d", number, Path(DOORS[number]).name, recipe.name, recipe.seed)
    if n_processes == 1 and os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ:
        remedy = "on a CPU it needs pip install mpich, and --mpirun_hostfile FILE"
        log.warning("accelerate was asked for several processes and started one: %s", remedy)
    if number <= 3 and recipe.data.drawn and arguments.data_root != parser(None).get_default("data_root"):
        why = f"recipe {recipe.name} draws its own images (its data.drawn is set)"
        log.warning("--data-root %s is not read: %s", arguments.data_root, why)


def _run_door(number: int, work: Work | str, words: dict[str, Any], arguments: argparse.Namespace) -> int:
    run = _run_of(arguments)
    folder = run.folder(number)
    is_main, n_processes = _processes()
    set_up_logging(folder, is_main)
    _tell_begin(run, number, n_processes, arguments)
    if number == 9 and arguments.compare:
        words = words | {"compare": tuple(folder.resolve() for folder in arguments.compare)}
    settings = settings_digest(run.recipe, number)
    inputs = _inputs(run, number, arguments)
    if not arguments.force and is_done(folder, settings, inputs, run.verify):
        _tell_done(run, number, arguments)
    else:
        with locked(run.out) if is_main else contextlib.nullcontext(False) as is_locked:
            _check_upstream(run, number, arguments)
            started = time.time()
            if number in COMPUTES:
                run = replace(run, device=_device(arguments.device))
                seed_everything(run.recipe.seed)
                keep_freed_memory()
                log.info("device %s%s", run.device, f", {n_processes} processes" if n_processes > 1 else "")
            if is_main:
                _begin(run, folder, arguments, is_locked)
            metrics = _imported(work)(run, **words)
            if is_main:
                _end(run, number, settings, inputs, started, metrics)
    log.info("next: %s", next_command(number, arguments))
    return 0


def _end(
    run: Run,
    number: int,
    settings: str,
    inputs: dict[str, str],
    started: float,
    metrics: dict[str, Any],
) -> None:
    """Marks door `number` as done. Its seconds include those of stages that an earlier start trained."""
    folder, here = run.out / FOLDERS[number], time.time() - started
    started -= max(0.0, metrics.pop("stage_seconds", 0.0) - here)
    inputs = inputs | _made_by_itself(run, number)
    mark = mark_done(run, folder, f"door {number:02d}", settings, inputs, started, metrics)
    log.info("done in %.1f s, peak memory %.2f GB: %s", mark["seconds"], mark["peak_memory_gb"], folder)


def settings_digest(recipe: Recipe, number: int) -> str:
    """One hash over the recipe fields that door `number` reads and the versions of the code whose results it writes."""
    return recipe.digest(*reads(recipe, number), **VERSIONS.get(number, {}))


def _inputs(run: Run, number: int, arguments: argparse.Namespace) -> dict[str, str]:
    """What door `number` rests on, beside the recipe: digests of the doors before, of the raw images and of the
    weights, and for door 07 the device."""
    known: dict[int, str] = {}
    inputs = {FOLDERS[n]: _finished(run, n, arguments, known) for n in INPUTS[number]}
    if number in (1, 3):
        inputs |= readers() | {"raw": _raw(run)}
    if number >= 4:
        inputs["weights"] = run.weights_digest()
    if number == 7:
        mark = read_done(run.out / FOLDERS[7]) or {"inputs": {}}
        inputs["device"] = mark["inputs"].get("device", "") if arguments.device == "auto" else _kind(arguments.device)
    if number == 9:
        compared = (folder.resolve() for folder in arguments.compare)
        inputs |= {f"--compare {folder}": outputs_digest(folder / FOLDERS[7]) for folder in compared}
    return inputs


def _made_by_itself(run: Run, number: int) -> dict[str, str]:
    """Those of a door's inputs that are known when it ends: the world that door 01 has drawn, the device that door 07
    has found."""
    if number == 1 and run.recipe.data.drawn is not None:
        return {"raw": _raw(run)}
    return {"device": _kind(run.device)} if number == 7 else {}


def _raw(run: Run) -> str:
    return fingerprint(run.images_root, (source.folder for source in run.recipe.data.sources))


def _kind(device: str) -> str:
    """cpu or cuda: cards compute in half precision, and what differs between two cards is less than that."""
    return device.partition(":")[0]


def _tell_done(run: Run, number: int, arguments: argparse.Namespace) -> None:
    """That there is nothing to do, and one line that names what would differ if it were made again."""
    folder = run.out / FOLDERS[number]
    mark = read_done(folder)
    assert mark is not None
    others = [other_code(mark)]
    if (
        number in PHASES
        and arguments.device != "auto"
        and _kind(mark.get("device", arguments.device)) != _kind(arguments.device)
    ):
        others.append(f"--device {mark['device']}")  # hours of training are not thrown away for an option
    if any(others):
        log.warning("%s was made by: %s; --force makes it again", folder.name, ", ".join(filter(None, others)))
    if _processes()[0]:
        renew_states(run.out, folder)
    log.info("already done: %s", folder)


def _check_upstream(run: Run, number: int, arguments: argparse.Namespace) -> None:
    """An error that names the file and the command when an output of a door before is not as it was written."""
    for upstream in INPUTS[number]:
        folder = run.out / FOLDERS[upstream]
        mark = read_done(folder)
        for name, what in damages(folder, mark, run.verify).items() if mark else ():
            raise ValueError(f"{folder / name} {what}; make it again: {command(upstream, arguments)}")


def reads(recipe: Recipe, number: int) -> tuple[str, ...]:
    """The recipe fields that door `number` reads; doors 04 to 08 also read stages, which backbones their ancestors
    have, and door 07 what was chosen."""
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
        if row.name in used or (row.name in ancestors and isinstance(row, Soup)):
            paths.append(f"stages.{row.name}")
        elif row.name in ancestors:
            paths += [f"stages.{row.name}.{field}" for field in of_ancestors]
    return tuple(paths)


def next_command(number: int, arguments: argparse.Namespace) -> str:
    """The command that opens the next door with the same options, or that there is none."""
    return "nothing; this was the last door" if number == max(DOORS) else command(number + 1, arguments)


def command(number: int, arguments: argparse.Namespace) -> str:
    """The command that opens door `number` with these options."""
    words = ["python", DOORS[number], "--recipe", arguments.recipe]
    for text in arguments.set:
        words += ["--set", text]
    defaults = parser(None).parse_args([])
    for name in ("data_root", "out", "device", "scheduler"):
        if getattr(arguments, name) != getattr(defaults, name):
            words += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    if number == 9 and getattr(arguments, "compare", []):  # the doors before do not know it
        words += ["--compare", *map(str, arguments.compare)]
    return shlex.join(words)


def as_data(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options by name, as JSON can hold them: paths become texts."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return {name: plain(value) for name, value in vars(arguments).items()}


def _finished(run: Run, number: int, arguments: argparse.Namespace, known: dict[int, str]) -> str:
    """The digest of door `number`'s outputs; an error that names the command when it has not finished with this recipe
    and inputs.

    Args:
        run: Whose doors.
        number: The door.
        arguments: For the command.
        known: The digests of the doors that were asked for before.
    """
    if number in known:
        return known[number]
    folder = run.out / FOLDERS[number]
    mark = read_done(folder)
    if mark is None:
        raise ValueError(f"{folder} is not finished; first run: {command(number, arguments)}")
    if mark["settings"] != settings_digest(run.recipe, number):
        raise ValueError(
            f"{folder} was made with other settings of the recipe; run it again: {command(number, arguments)}"
        )
    for upstream in INPUTS[number]:
        if mark["inputs"].get(FOLDERS[upstream]) != _finished(run, upstream, arguments, known):
            raise ValueError(
                f"{folder} was made from an older {FOLDERS[upstream]}; run it again: {command(number, arguments)}"
            )
    known[number] = outputs_digest(folder)
    return known[number]


def _imported(work: Work | str) -> Work:
    if not isinstance(work, str):
        return work
    module, _, function = work.partition(":")
    return getattr(importlib.import_module(module), function)


def _device(name: str) -> str:
    """The device of that name, which must be there; for auto the first accelerator, else the CPU."""
    import torch  # slow to import, and a door that is done does not need it

    if "OMP_NUM_THREADS" not in os.environ:  # torch counts the machine's cores, whatever a container's quota pays
        torch.set_num_threads(min(torch.get_num_threads(), n_cores()))
    if name != "auto":
        if name.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"--device {name}: torch {torch.__version__} sees no CUDA device here; use --device cpu")
        _, _, index = name.partition(":")
        if index and int(index) >= torch.cuda.device_count():
            raise ValueError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")
        if index and "LOCAL_RANK" not in os.environ:  # under accelerate launch each process has its own
            torch.cuda.set_device(int(index))
        return name
    is_for_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")  # accelerate launch --cpu
    return "cuda" if torch.cuda.is_available() and not is_for_cpu else "cpu"


def _begin(run: Run, folder: Path, arguments: argparse.Namespace, is_locked: bool) -> None:
    """Takes away what must not be gone on from, the done-mark first of all, and notes the recipe."""
    check_writable(folder)
    sweep(folder, is_locked)
    sweep(run.cache, is_locked=False)  # other processes of this start may be writing there
    remove_damaged(folder, run.verify)
    (folder / "done.json").unlink(missing_ok=True)
    if arguments.force:
        clear(folder)
    log.debug("command: %s", shlex.join(sys.argv))
    save_recipe(folder.parent, run.recipe, shlex.join(sys.argv), as_data(arguments))
