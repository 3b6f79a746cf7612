"""What every door does around its one call: parse the options, load the recipe, open the run, seed, skip when there is
nothing to do, call, write the done-mark."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from guie.address_space import check_address_space
from guie.branch import take_over
from guie.dependencies import PHASES, check_inputs_whole, input_digests, late_digests, read_values, settings_digest
from guie.done import is_done, locked, mark_done, other_code, read_done, remove_damaged, renew_states
from guie.errors import run_to_the_end
from guie.files import sweep
from guie.kept import check_earlier_kept, check_kept
from guie.launch import check_device, check_tracker, choose_device, device_kind, main_and_count
from guie.machine import check_names, check_writable
from guie.options import NAMES, as_data, command, next_command, parser
from guie.recipe import load_recipe
from guie.run import (
    DOORS,
    FOLDERS,
    Run,
    check_reads_images,
    clear,
    keep_freed_memory,
    save_recipe,
    seed_everything,
    set_up_logging,
)

log = logging.getLogger(__name__)
Work = Callable[..., dict[str, Any]]
COMPUTES = range(4, 9)  # the doors that need torch; the others start without it


def open_door(number: int, doc: str | None, work: Work | str, argv: Sequence[str] | None = None, **words: Any) -> int:
    """Runs door `number`: calls `work(run, **words)` unless its result exists already.

    Args:
        number: 1 to 9.
        doc: The door's docstring, shown by --help.
        work: A function that takes the run, writes the door's folder and returns metrics for `done.json`. As
            "module:function" it is imported only when there is work to do, so that a finished door and --help answer
            in a quarter of a second.
        argv: The arguments, without the program's name; None takes those of this process.
        words: Further arguments of `work`.

    Returns:
        The exit status. An error is printed in one line; see `guie.errors`.
    """
    arguments = parser(doc, number).parse_args(argv)
    goes_on = f"to go on: {command(number, arguments)}"
    return run_to_the_end(
        lambda: _run_door(number, work, words, arguments), f"door {number:02d}", arguments.out, goes_on
    )


def _run_door(number: int, work: Work | str, words: dict[str, Any], arguments: argparse.Namespace) -> int:
    run = _run_of(number, arguments)
    folder = run.folder(number)
    is_main, n_processes = main_and_count()
    set_up_logging(folder, is_main)
    _log_begin(run, number, n_processes)
    words = words | _compared(number, arguments)
    settings = settings_digest(run.recipe, number)
    if not arguments.replace:
        check_earlier_kept(run, number)
    inputs = _inputs(run, number, settings, arguments, n_processes)

    def is_finished() -> bool:
        return not arguments.force and is_done(folder, settings, inputs, run.verify)

    mark_seen = _mark_time(folder)
    if is_finished():
        _log_done(run, number, arguments, is_main)
    else:
        _try_libraries(work, number, folder)
        with locked(run.out) if is_main else contextlib.nullcontext(False) as is_locked:
            if n_processes == 1 and _mark_time(folder) != mark_seen and is_finished():  # another start was faster
                _log_done(run, number, arguments, is_main)
            else:
                if not (arguments.force or arguments.replace):
                    check_kept(run, number)
                check_inputs_whole(run, number, arguments)
                started = time.time()
                run, metrics = _worked(run, number, work, words, arguments, is_locked)
                if is_main:
                    _end(run, number, settings, inputs, started, metrics)
    log.info("next: %s", next_command(number, arguments))
    return 0


def _worked(
    run: Run, number: int, work: Work | str, words: dict[str, Any], arguments: argparse.Namespace, is_locked: bool
) -> tuple[Run, dict[str, Any]]:
    """The run with its device, and what the work returned."""
    is_main, n_processes = main_and_count()
    if number in COMPUTES:
        run = _on_device(run, arguments, n_processes)
    if is_main:
        _begin(run, run.folder(number), arguments, is_locked)
    return run, _imported(work)(run, **words)


def _run_of(number: int, arguments: argparse.Namespace) -> Run:
    """The run that the options describe; its device is chosen later.

    Raises:
        ValueError: the recipe or the device does not exist, a path has a name that cannot be used, or --data-root is
            given to a door that reads no images of the user.
        FileNotFoundError: the recipe's file does not exist.
    """
    recipe = load_recipe(arguments.recipe, arguments.set)
    if number <= 3 and arguments.data_root != parser(None).get_default("data_root"):
        check_reads_images(recipe, arguments.data_root)
    check_device(arguments.device)
    check_tracker(arguments.tracker)
    data_root = arguments.data_root.resolve()
    check_names(out=arguments.out.resolve(), **{"data-root": data_root})
    out = (arguments.out / recipe.name).resolve()
    return Run(
        recipe, data_root, out, scheduler=arguments.scheduler, verify=arguments.verify, tracker=arguments.tracker
    )


def _inputs(run: Run, number: int, settings: str, arguments: argparse.Namespace, n_processes: int) -> dict[str, str]:
    """What the door reads. The result of another run may be taken over first, see `guie.branch`."""
    inputs = input_digests(run, number, arguments)
    if n_processes == 1 and not arguments.force and _taken_over(run, number, settings, inputs, arguments):
        return input_digests(run, number, arguments)  # door 07 keeps the device of a finished result
    return inputs


def _taken_over(run: Run, number: int, settings: str, inputs: dict[str, str], arguments: argparse.Namespace) -> bool:
    """Whether the door's result was taken over from the recipe's own run, beside this one of another name."""
    others = [text for text in arguments.set if not text.startswith(NAMES)]
    if len(others) == len(arguments.set):
        return False
    origin = (arguments.out / load_recipe(arguments.recipe, others).name).resolve()
    if not take_over(run, origin, number, settings, inputs):
        return False
    save_recipe(run.out, run.recipe, shlex.join(sys.argv), as_data(arguments))
    return True


def _compared(number: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The argument of door 09's work that --compare gives."""
    if number != 9 or not arguments.compare:
        return {}
    return {"compare": tuple(folder.resolve() for folder in arguments.compare)}


def _try_libraries(work: Work | str, number: int, folder: Path) -> None:
    """See `check_address_space`. Work that is not imported yet is imported there first.

    Raises:
        OSError: its libraries do not start in the address space that there is.
        RuntimeError: Arrow's threads do not start.
    """
    if isinstance(work, str):
        check_address_space([work.partition(":")[0]], f"door {number:02d}", folder)


def _mark_time(folder: Path) -> int:
    """When the folder's done-mark was written, in nanoseconds; 0 where there is none."""
    mark = folder / "done.json"
    return mark.stat().st_mtime_ns if mark.is_file() else 0


def _on_device(run: Run, arguments: argparse.Namespace, n_processes: int) -> Run:
    """The run with its device. Seeds the process and lets it keep the memory that it frees."""
    run = replace(run, device=choose_device(arguments.device))
    seed_everything(run.recipe.seed)
    keep_freed_memory()
    log.info("device %s%s", run.device, f", {n_processes} processes" if n_processes > 1 else "")
    return run


def _log_begin(run: Run, number: int, n_processes: int) -> None:
    """Logs door, recipe and seed, and warns of processes that were not started."""
    recipe = run.recipe
    log.info("door %02d  %s  recipe %s  seed %d", number, Path(DOORS[number]).name, recipe.name, recipe.seed)
    if n_processes == 1 and os.environ.get("ACCELERATE_USE_CPU") == "True" and "MASTER_ADDR" in os.environ:
        remedy = "on a CPU it needs pip install mpich, and --mpirun_hostfile FILE"
        log.warning("accelerate was asked for several processes and started one: %s", remedy)


def _log_done(run: Run, number: int, arguments: argparse.Namespace, is_main: bool) -> None:
    """Logs that there is nothing to do, and warns if other code or another kind of device made the result."""
    folder = run.out / FOLDERS[number]
    mark = read_done(folder)
    assert mark is not None
    others = [other_code(mark)]
    if (
        number in PHASES
        and arguments.device != "auto"
        and device_kind(mark.get("device", arguments.device)) != device_kind(arguments.device)
    ):
        others.append(f"--device {mark['device']}")  # --device alone does not throw away hours of training
    if any(others):
        log.warning("%s was made by: %s; --force makes it again", folder.name, ", ".join(filter(None, others)))
    if is_main:
        renew_states(run.out, folder)
    log.info("already done: %s", folder)


def _begin(run: Run, folder: Path, arguments: argparse.Namespace, is_locked: bool) -> None:
    """Removes what the work must not continue from, and saves the recipe and the command.

    The done-mark is removed before other outputs, so that an interruption leaves no mark without its files.
    """
    check_writable(folder)
    sweep(folder, is_locked)
    sweep(run.cache, is_locked=False)  # other processes of this start may be writing there
    remove_damaged(folder, run.verify)
    (folder / "done.json").unlink(missing_ok=True)
    if arguments.force:
        clear(folder)
    log.debug("command: %s", shlex.join(sys.argv))
    save_recipe(folder.parent, run.recipe, shlex.join(sys.argv), as_data(arguments))


def _end(
    run: Run,
    number: int,
    settings: str,
    inputs: dict[str, str],
    started: float,
    metrics: dict[str, Any],
) -> None:
    """Writes the done-mark of door `number`. Its seconds include stages that an earlier start of the door trained."""
    folder, here = run.out / FOLDERS[number], time.time() - started
    started -= max(0.0, metrics.pop("stage_seconds", 0.0) - here)
    inputs = inputs | late_digests(run, number)
    read = read_values(run.recipe, number)
    mark = mark_done(run, folder, f"door {number:02d}", settings, inputs, started, metrics, read)
    log.info("done in %.1f s, peak memory %.2f GB: %s", mark["seconds"], mark["peak_memory_gb"], folder)


def _imported(work: Work | str) -> Work:
    if not isinstance(work, str):
        return work
    module, _, function = work.partition(":")
    return getattr(importlib.import_module(module), function)
