"""What the Kaggle notebooks do besides showing: find what is attached, choose the recipe for the cards, open the doors until time is up, hand in.

Kaggle mounts what is attached below /kaggle/input, read-only, keeps /kaggle/working (20 GB) as the version's output, and ends a session after nine
hours without keeping anything. So the doors are interrupted before that, and a next version, with this one's output attached, goes on.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm  # not tqdm.auto, whose bar for notebooks needs ipywidgets

from guie.done import read_done
from guie.door import parser
from guie.files import whole_file
from guie.recipe import load_recipe
from guie.run import DOORS, FOLDERS, PHASE_FOLDERS, PROJECT
from guie.settings.model import PICKLED
from guie.settings.recipe import Recipe
from guie.terminal import run_until

LARGE, SMALL = "kaggle_t4", "demo"
CARD_GB = 14.0  # of memory that LARGE needs on each card (11 by its own arithmetic); a T4 tells 14.6, a P100 15.9
DEPTHS = ("*", "*/*", "*/*/*")  # /kaggle/input/<set>, and now /kaggle/input/datasets/<owner>/<set>
LINE_S = "5"  # seconds between two states of a progress bar: all of them are kept in the executed notebook
RUNS = "artifacts"


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
        n_processes: That train together: the number of cards, at least one.
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


def begin(input_root: Path, working: Path, recipe: str = "", hours: float = 8.5, data: Mapping[str, str] | None = None, only_export: bool = False) -> Session:
    """Looks at what is attached and which cards there are, brings an earlier version's run into the working folder, and prints what it found.

    Args:
        input_root: What is attached, read-only.
        working: What is kept; the run goes to `artifacts/<recipe>` in it.
        recipe: Name or path; empty: that of an attached run, else what fits the cards.
        hours: From now until the doors are interrupted.
        data: Where data sets lie that no attached folder is named after, by the name of the recipe's folder.
        only_export: The attached run shall only be exported: it is linked, not copied.

    Raises:
        FileNotFoundError: no doors; no run to export; a data set that the recipe reads is not attached.
    """
    given = data or {}
    sets: tuple[str, ...] = ()
    earlier = earlier_run(input_root, load_recipe(recipe).name if recipe else "")
    project, card_gb = find_project(input_root), cards()
    if not recipe:
        if earlier is not None:
            recipe, sets = options_of(earlier)
        else:
            recipe, why = choose_recipe(card_gb, data_folders(load_recipe(LARGE), input_root, given), has_weights(input_root))
            print(f"because    {why}")
    chosen = load_recipe(recipe, sets)
    working.mkdir(parents=True, exist_ok=True)
    run = working / RUNS / chosen.name
    if earlier is not None:
        link_run(earlier, run) if only_export else copy_run(earlier, run)
        print(f"goes on    from {earlier}, {sum(is_finished(run, n) for n in DOORS)} of {len(DOORS)} doors done")
    if only_export and not is_finished(run, 7):
        raise FileNotFoundError(f"no run of {chosen.name} with door 07 done is attached below {input_root}; attach the output of reproduce_on_kaggle.ipynb")
    folders = data_folders(chosen, input_root, given)
    lacking = sorted({first_part(source.folder) for source in chosen.data.sources} - folders.keys())
    if lacking and not chosen.data.drawn and not is_finished(run, 3):
        raise FileNotFoundError(
            f"{chosen.name} reads {', '.join(lacking)}, which no attached folder below {input_root} is named after; attach them, or name them in DATA"
        )
    caches = attached(input_root, "hf/hub")
    environment = {"HF_HOME": str(caches[0].parent), "HF_HUB_OFFLINE": "1"} if caches else {}
    data_root = link_data(folders, weights_files(project, input_root, chosen))
    session = Session(project, recipe, sets, working / RUNS, data_root, time.time() + hours * 3600, max(1, len(card_gb)), environment)
    print(f"recipe     {shlex.join([recipe, *(word for text in sets for word in ('--set', text))])}")
    print(f"cards      {', '.join(f'{gb:.1f} GB' for gb in card_gb) or 'none: the CPU'}")
    print(f"doors      {project}")
    print(f"results    {run}")
    print(f"stops at   {time.strftime('%H:%M', time.localtime(session.ends_at))}, in {hours:g} h")
    return session


def open_doors(session: Session, numbers: Sequence[int] = tuple(DOORS)) -> bool:
    """Opens the doors one after the other, each with its output shown here, until all are done or time is up.

    A run whose images are packed does not need the raw ones again: doors 01 to 03 stay closed.

    Returns:
        Whether all are done.

    Raises:
        RuntimeError: a door failed; its last lines say why.
    """
    for number in numbers:
        if number <= 3 and is_finished(session.run, 3):
            continue
        status = run_until(session.ends_at, command(session, number), session.out.parent, {"TQDM_MININTERVAL": LINE_S, **session.environment})
        if status is None:
            print(f"\nTime is up at door {number:02d}. Save this version, attach its output to the next one, and that one goes on from here.")
            return False
        if status:
            raise RuntimeError(f"door {number:02d} ended with status {status}; its last lines above say why")
        print()
    return True


def command(session: Session, number: int) -> list[str]:
    """What opens a door; doors 04 to 06 train on all cards."""
    python = [sys.executable]
    if session.n_processes > 1 and FOLDERS[number] in PHASE_FOLDERS.values():
        launch = ["--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]  # the trainer chooses the precision itself
        python += ["-m", "accelerate.commands.launch", *launch, "--num_processes", str(session.n_processes)]
    words = ["--recipe", session.recipe, *(word for text in session.sets for word in ("--set", text))]
    return [*python, str(session.project / DOORS[number]), *words, "--data-root", str(session.data_root), "--out", str(session.out)]


def hand_in(session: Session) -> Path | None:
    """Checks the run's submission as the host loads it and copies it to `submission.zip` beside the runs.

    Returns:
        The copy; None where time was up before the check was done.

    Raises:
        RuntimeError: the check found something wrong.
    """
    recipe, export = load_recipe(session.recipe, session.sets), session.run / FOLDERS[8]
    checker = [sys.executable, "-P", str(session.project / "submission/check_submission.py"), str(export / "submission.zip")]
    expected = ["--expected", str(export / "parity"), "--min-cosine", str(recipe.export.min_parity_cosine)]
    status = run_until(session.ends_at, [*checker, *expected], session.out.parent)
    if status is None:
        print("\nTime was up before the check was done. Attach this version's output to submit.ipynb.")
        return None
    if status:
        raise RuntimeError(f"{export / 'submission.zip'} is not sound; the lines above say what to mend")
    with whole_file(session.out.parent / "submission.zip") as temporary:
        shutil.copyfile(export / "submission.zip", temporary)
    return session.out.parent / "submission.zip"


def attached(input_root: Path, name: str) -> list[Path]:
    """What is called `name` in any attached folder; a search of all depths would walk through millions of images."""
    return sorted({path for depth in DEPTHS for path in input_root.glob(f"{depth}/{name}")})


def find_project(input_root: Path) -> Path:
    """The folder of the doors: of an attached kit, else the checkout that guie was imported from.

    Raises:
        FileNotFoundError: neither.
    """
    kits = [path.parents[1] for path in attached(input_root, f"project/{DOORS[4]}")]
    for project in (*kits, PROJECT):
        if (project / DOORS[4]).is_file():
            return project
    raise FileNotFoundError(f"no doors: attach the folder that notebooks/build_kit.py makes below {input_root}")


def cards() -> tuple[float, ...]:
    """Memory of each GPU that torch can use, in GiB; asked in a process of its own, which gives the cards back when it ends."""
    if shutil.which("nvidia-smi") is None:
        return ()
    code = "import torch; print(*(torch.cuda.get_device_properties(i).total_memory / 2**30 for i in range(torch.cuda.device_count())))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return tuple(float(word) for word in done.stdout.split())


def choose_recipe(card_gb: Sequence[float], folders: Mapping[str, Path], can_have_weights: bool) -> tuple[str, str]:
    """The recipe that fits what is there, and why.

    Args:
        card_gb: Memory of each card.
        folders: Attached data sets that LARGE reads; see `data_folders`.
        can_have_weights: Whether its backbone is attached or can be fetched.
    """
    needed = {first_part(source.folder) for source in load_recipe(LARGE).data.sources}
    if not card_gb:
        return SMALL, f"there is no GPU, and {SMALL} needs none"
    if min(card_gb) < CARD_GB:
        return SMALL, f"{LARGE} needs {CARD_GB:g} GB on each card, and the smallest has {min(card_gb):.1f}"
    if needed - folders.keys():
        return SMALL, f"{LARGE} fits the cards, but {', '.join(sorted(needed - folders.keys()))} is not attached"
    if not can_have_weights:
        return SMALL, f"{LARGE} fits the cards, but its backbone is neither attached (hf/ in the kit) nor is the internet on"
    return LARGE, f"its data sets are attached and fit {len(card_gb)} card{'s' * (len(card_gb) > 1)} of {min(card_gb):.1f} GB"


def has_weights(input_root: Path) -> bool:
    """Whether weights that a library fetches can be had: from an attached cache of Hugging Face, or over the network."""
    if attached(input_root, "hf/hub"):
        return True
    try:
        with socket.create_connection(("huggingface.co", 443), timeout=5):
            return True
    except OSError:
        return False


def data_folders(recipe: Recipe, input_root: Path, given: Mapping[str, str]) -> dict[str, Path]:
    """Where the recipe's data sets are attached, by their folder's name: as given, else in a folder of that name but for case and punctuation."""
    if recipe.data.drawn:
        return {}
    there = {_letters(path.name): path for depth in reversed(DEPTHS) for path in sorted(input_root.glob(depth), reverse=True) if path.is_dir()}
    found = {}
    for source in recipe.data.sources:
        name = first_part(source.folder)
        path = Path(given[name]) if name in given else there.get(_letters(name))
        if path is not None and (path / Path(source.folder).relative_to(name)).is_dir():
            found[name] = path
    return found


def first_part(folder: str) -> str:
    """`grocery_store` of `grocery_store/dataset`."""
    return Path(folder).parts[0]


def weights_files(project: Path, input_root: Path, recipe: Recipe) -> list[Path]:
    """Pretrained backbones, of the project and attached, with the project's list of checksums; of torch.save's files those that the recipe names."""
    patterns = ["*.safetensors", *sorted({Path(model.weights_file).name for model in recipe.models if model.weights_file.endswith(PICKLED)})]
    own = [path for pattern in patterns for path in sorted((project / "weights").glob(pattern))]
    return [*(path for pattern in patterns for path in attached(input_root, pattern)), *own, project / "weights/SHA256SUMS"]


def link_data(folders: Mapping[str, Path], files: Sequence[Path]) -> Path:
    """A new data root outside the working folder, with links to data sets by their folders' names and to weights by theirs."""
    root = Path(tempfile.mkdtemp(prefix="guie_data_"))
    for name, path in [*((path.name, path) for path in files), *folders.items()]:
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(path.absolute())
    return root


def is_finished(run: Path, number: int) -> bool:
    """Whether door `number` has marked its folder."""
    return read_done(run / FOLDERS[number]) is not None


def earlier_run(input_root: Path, name: str = "") -> Path | None:
    """The attached run (of recipe `name`) in which most doors and stages are done, the newest of equals; None without any."""
    runs = [path.parent for path in attached(input_root, f"{RUNS}/{name or '*'}/recipe.json")]
    return max(runs, key=lambda run: (len(list(run.glob("0?_*/done.json"))) + len(list(run.glob("0[456]_*/*/done.json"))), run.stat().st_mtime), default=None)


def options_of(run: Path) -> tuple[str, tuple[str, ...]]:
    """The recipe and the changed fields that a run was started with."""
    words = shlex.split(json.loads((run / "recipe.json").read_text(encoding="utf-8"))["command"])
    arguments = parser(None, 9).parse_args(words[1:])  # door 09 knows all options
    return arguments.recipe, tuple(arguments.set)


def copy_run(earlier: Path, run: Path) -> None:
    """Copies a run into the working folder, whole or not at all, and leaves one that is there; the copies can be written to."""
    if run.exists():
        return
    files = [path for path in sorted(earlier.rglob("*")) if path.is_file()]
    copying = run.with_name(f".{run.name}.copying")
    shutil.rmtree(copying, ignore_errors=True)
    with tqdm(total=sum(path.stat().st_size for path in files), desc="copying the earlier run", unit="B", unit_scale=True, file=sys.stdout) as bar:
        for path in files:
            target = copying / path.relative_to(earlier)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            os.utime(target, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))  # by which doors 01 and 03 know their images
            bar.update(target.stat().st_size)
    copying.rename(run)


def link_run(earlier: Path, run: Path) -> None:
    """Links what door 08 reads of a run into the working folder; what doors 08 and 09 write is made there."""
    run.mkdir(parents=True, exist_ok=True)
    for path in sorted(earlier.iterdir()):
        if path.name not in (FOLDERS[8], FOLDERS[9]) and not (run / path.name).exists():
            if path.is_dir():
                (run / path.name).symlink_to(path.absolute())
            else:
                shutil.copyfile(path, run / path.name)  # recipe.json is written again


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
