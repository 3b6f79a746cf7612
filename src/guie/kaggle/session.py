"""One session of a notebook: what it runs, until when, and its doors one after the other."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from guie.files import whole_file
from guie.kaggle.choice import LARGE, cards, choose_recipe
from guie.kaggle.earlier import (
    RUNS,
    check_settings,
    copy_run,
    earlier_run,
    is_finished,
    is_started_with,
    keeps_weights,
    link_run,
    options_of,
)
from guie.kaggle.inputs import (
    cache_variables,
    data_folders,
    find_project,
    link_data,
    needed_folders,
    sets_of_sources,
    weights_files,
)
from guie.kaggle.weights import Weights, find_weights
from guie.recipe import load_recipe
from guie.run import DOORS, FOLDERS, PHASE_FOLDERS
from guie.settings.names import PRETRAINED
from guie.settings.recipe import Recipe
from guie.terminal import run_until

TOO_SLOW = 4  # exit status of the checker: over the time limit at this machine's speed, and no other problem
LINE_S = "5"  # seconds between two states of a progress bar: the executed notebook keeps all of them
LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--dynamo_backend", "no")


@dataclass(frozen=True)
class Session:
    """Where a notebook reads and writes, what it runs, and when it must stop.

    Attributes:
        project: The folder of the doors.
        recipe: Name or path of the recipe.
        sets: Changed fields, as `--set` takes them.
        out: Folder of the runs.
        data_root: Folder of links to the attached data sets and weights.
        ends_at: When the doors are interrupted, seconds since the epoch.
        n_processes: Processes that train together: one per card, at least one.
        environment: Variables that the doors get besides the notebook's own.
    """

    project: Path
    recipe: str
    sets: tuple[str, ...]
    out: Path
    data_root: Path
    ends_at: float
    n_processes: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        """The folder of this recipe's run."""
        return self.out / load_recipe(self.recipe, self.sets).name

    @property
    def recipe_options(self) -> list[str]:
        """The options of a door that name the recipe and the changed fields."""
        return ["--recipe", self.recipe, *(word for text in self.sets for word in ("--set", text))]


def begin(
    input_root: Path,
    working: Path,
    recipe: str = "",
    hours: float = 8.5,
    data: Mapping[str, str] | None = None,
    only_export: bool = False,
    weights: Sequence[str] | None = None,
    sets: Sequence[str] = (),
    name: str = "",
) -> Session:
    """Finds what is attached and which cards there are, and prints it. Brings an earlier run into the working folder.

    Args:
        input_root: What is attached, read-only.
        working: What Kaggle keeps; the run is `artifacts/<recipe>` in it.
        recipe: Name or path; '' takes that of the attached run, otherwise the one that fits the cards.
        hours: From now until the doors are interrupted.
        data: Data sets whose attached folder has another name: the recipe's folder, and where it lies.
        only_export: Only export the attached run; it is linked, not copied.
        weights: Attached files and folders with the weights to start from; None searches all that is attached.
        sets: Names of the data sets to train on; none takes all that the recipe reads.
        name: Of the run, '' for the recipe's; a run of another name begins anew, beside the attached one.

    Raises:
        FileNotFoundError: no doors; no run to export; a data set that the recipe reads, or the weights that it starts
            from, are not attached.
        ValueError: the recipe or a data set is unknown, several files of weights fit, the recipe that was asked for
            does not fit the cards, or the attached run does not hold its arguments, or was made with other settings.
    """
    earlier = _earlier(input_root, recipe, name)
    project = find_project(input_root)
    card_gb = cards()
    if not recipe and not earlier:
        recipe = _fitting(card_gb, input_root, data or {}, sets, weights)
    recipe, changed = _arguments(recipe, earlier, sets, name, only_export)
    chosen = load_recipe(recipe, changed)
    run = working / RUNS / chosen.name
    there = run if run.exists() else earlier
    _check_exportable(chosen, there, input_root, only_export)
    folders = _data_folders(chosen, there, input_root, data or {})
    found = Weights()
    if _needs_weights(chosen, only_export):
        found = find_weights(chosen, input_root, project, weights, folders.values(), keeps_weights(chosen, there))
    changed += found.sets
    check_settings(load_recipe(recipe, changed), there)
    _bring(earlier, run, only_export)
    session = Session(
        project,
        recipe,
        changed,
        run.parent,
        link_data(folders, weights_files(project, input_root, chosen), found.files),
        time.time() + hours * 3600,
        len(card_gb) or 1,
        cache_variables(input_root),
    )
    _show(session, card_gb, hours)
    return session


def _earlier(input_root: Path, recipe: str, name: str) -> Path | None:
    """The attached run of this name, else that of a recipe; of any if both are ''."""
    return earlier_run(input_root, name or (load_recipe(recipe).name if recipe else ""))


def _needs_weights(recipe: Recipe, only_export: bool) -> bool:
    """Whether the session reads pretrained weights: it trains, or exports them as they are."""
    return not only_export or any(member.stage == PRETRAINED for member in recipe.embed.final.members)


def _arguments(
    recipe: str, earlier: Path | None, sets: Sequence[str], name: str, only_export: bool
) -> tuple[str, tuple[str, ...]]:
    """The recipe and its changed fields: as the first cell says, else those of the attached run.

    An export takes the changed fields of the run that it exports, if that was started with this recipe.
    """
    changed: tuple[str, ...] = ()
    if not recipe and earlier:
        recipe, changed = options_of(earlier)
    elif only_export and earlier and is_started_with(earlier, recipe):
        _, changed = options_of(earlier)
    changed += sets_of_sources(load_recipe(recipe, changed), sets)
    named = (f"name={name}",) if name and load_recipe(recipe, changed).name != name else ()
    return recipe, changed + named


def _check_exportable(recipe: Recipe, run: Path | None, input_root: Path, only_export: bool) -> None:
    """Raises FileNotFoundError if a run is to be exported, and there is none whose door 07 is done."""
    if only_export and (run is None or not is_finished(run, 7)):
        remedy = "attach the output of reproduce_on_kaggle.ipynb"
        raise FileNotFoundError(f"no run of {recipe.name} with door 07 done is attached below {input_root}; {remedy}")


def _fitting(
    card_gb: Sequence[float],
    input_root: Path,
    given: Mapping[str, str],
    sets: Sequence[str],
    weights: Sequence[str] | None,
) -> str:
    """The recipe that fits what is attached; prints the reason."""
    changed = sets_of_sources(load_recipe(LARGE), sets)
    asked = "SETS" if sets else "WEIGHTS" if weights is not None else ""
    recipe, why = choose_recipe(card_gb, data_folders(load_recipe(LARGE, changed), input_root, given), changed, asked)
    print(f"because    {why}")
    return recipe


def _bring(earlier: Path | None, run: Path, only_export: bool) -> None:
    """Copies or links an earlier run, if there is one, to `run`, and prints how far it is."""
    run.parent.parent.mkdir(parents=True, exist_ok=True)
    if earlier:
        (link_run if only_export else copy_run)(earlier, run)
        n_done = sum(is_finished(run, number) for number in DOORS)
        print(f"goes on    from {earlier}, {n_done} of {len(DOORS)} doors done")


def _data_folders(recipe: Recipe, run: Path | None, input_root: Path, given: Mapping[str, str]) -> dict[str, Path]:
    """See `data_folders`.

    Raises:
        FileNotFoundError: data sets that the recipe reads are not attached, and the run's images are not packed yet.
    """
    folders = data_folders(recipe, input_root, given)
    lacking = sorted(needed_folders(recipe) - folders.keys())
    if lacking and not recipe.data.drawn and not (run and is_finished(run, 3)):
        names, where = ", ".join(lacking), f"no folder below {input_root} has that name"
        raise FileNotFoundError(f"{recipe.name} reads {names}, but {where}; attach them, or name them in DATA")
    return folders


def _show(session: Session, card_gb: Sequence[float], hours: float) -> None:
    """Prints what the session runs, where, and until when."""
    print(f"recipe     {shlex.join(session.recipe_options[1:])}")
    print(f"cards      {', '.join(f'{gb:.1f} GB' for gb in card_gb) or 'none: the CPU'}")
    print(f"doors      {session.project}")
    print(f"results    {session.run}")
    print(f"stops at   {time.strftime('%H:%M', time.localtime(session.ends_at))}, in {hours:g} h")


def open_doors(session: Session, numbers: Sequence[int] = tuple(DOORS)) -> bool:
    """Opens the doors one after the other, and shows their output, until all are done or time is up.

    Doors 01 to 03 are skipped when the run's images are packed: the raw ones are not needed again.

    Returns:
        Whether all are done.

    Raises:
        RuntimeError: a door failed; its last lines say why.
    """
    for number in numbers:
        if number <= 3 and is_finished(session.run, 3):
            continue
        variables = {"TQDM_MININTERVAL": LINE_S, **session.environment}
        status = run_until(session.ends_at, command(session, number), session.out.parent, variables)
        if status is None:
            print(f"\nTime is up at door {number:02d}. Save this version and attach its output to the next one.")
            print("The next version continues from here.")
            return False
        if status:
            raise RuntimeError(f"door {number:02d} ended with status {status}; its last lines above say why")
        print()
    return True


def command(session: Session, number: int) -> list[str]:
    """The command that opens a door; doors 04 to 06 train on all cards."""
    python = [sys.executable]
    if session.n_processes > 1 and FOLDERS[number] in PHASE_FOLDERS.values():
        # The trainer chooses the precision itself.
        python += [*LAUNCH, "--mixed_precision", "no", "--num_processes", str(session.n_processes)]
    is_drawn = load_recipe(session.recipe, session.sets).data.drawn is not None
    reads_images = number > 3 or not is_drawn  # doors 01 to 03 of a drawn recipe refuse --data-root
    places = [*(["--data-root", str(session.data_root)] if reads_images else []), "--out", str(session.out)]
    return [*python, str(session.project / DOORS[number]), *session.recipe_options, *places]


def hand_in(session: Session) -> Path | None:
    """Checks the run's submission as the host loads it, and copies it to `submission.zip` beside the runs.

    One that is over the time limit at this machine's speed, and has no other problem, is copied as well: this says
    little of the scorer's machine.

    Returns:
        The copy; None when time was up before the check was done.

    Raises:
        RuntimeError: the check found a fault.
    """
    recipe, export = load_recipe(session.recipe, session.sets), session.run / FOLDERS[8]
    made, copy = export / "submission.zip", session.out.parent / "submission.zip"
    checker = [sys.executable, "-P", str(session.project / "submission/check_submission.py"), str(made)]
    expected = ["--expected", str(export / "parity"), "--min-cosine", str(recipe.export.min_parity_cosine)]
    status = run_until(session.ends_at, [*checker, *expected], session.out.parent)
    if status is None:
        print("\nTime was up before the check was done. Attach this version's output to submit.ipynb.")
        return None
    if status not in (0, TOO_SLOW):
        raise RuntimeError(f"{made} is not sound; the lines above say what is wrong")
    with whole_file(copy) as temporary:
        shutil.copyfile(made, temporary)
    if status == TOO_SLOW:
        print(f"\n{copy} is over the time limit at this machine's speed; the lines above say by how much.")
        print("It is copied all the same: the scorer's machine may be faster, and all other checks passed.")
    return copy
