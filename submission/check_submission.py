"""Checks a submission.zip as the contest's scorer would load it. Needs only torch, Pillow and numpy, not this project.

    python submission/check_submission.py submission.zip --expected artifacts/<recipe>/08_export/parity
    python submission/check_submission.py submission.zip --score FOLDER

It unpacks the zip and loads saved_model.pt by torch.jit.load on the CPU, in two new processes without network. Each
process embeds images of odd sizes, one by one. The check stops at the first problem and prints two lines: the problem
(FAIL) and its remedy (FIX). The exit status is then 1. Otherwise it prints "The submission is sound." and the exit
status is 0. What the module itself prints is counted, but not shown in the table. A module that would need more than
--limit-hours for the contest's test images, at this machine's speed, is a problem, too. It is told last, and the exit
status is then 4: all other checks have passed, and the scorer's machine may be faster.

--score embeds the images of FOLDER/query and FOLDER/index. It prints the host's metric, mean precision at five by
Euclidean distance. Which images are relevant comes from FOLDER/solution.csv (columns id, images, Usage; an id is a
file's name without its ending). Without that file it comes from the folders: query/<class>/<image> and
index/<class>/<image>.
"""

import argparse
import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from PIL import Image

MODEL_NAME = "saved_model.pt"
EMBEDDING_DIM = 64
SIZES = (
    (1, 1),
    (1, 5000),
    (5000, 1),
    (3, 7),
    (64, 48),
    (224, 224),
    (300, 1200),
    (1080, 1920),
    (4000, 3000),
)  # height, width
BLACK = "black 64x64"
N_TIMED = 9  # calls
N_NEIGHBOURS = 5
BLOCK = 256  # queries whose distances are in memory at once
TOLD = 3  # exit status of an inner process that has printed the problem
TOO_SLOW = 4  # exit status: over the time limit at this machine's speed, and no other problem
TABLE: list[TextIO] = []  # in an inner process: the stream of the table, since its stdout and stderr go to a file
MAX_DIFFERENCE = 1e-4  # between two runs on one image; threads may sum in another order
N_TEST_IMAGES = 205_000  # queries and index
LIMIT_HOURS = 9.0  # of the scoring notebook
HOST_MEMORY_GB = 13.0  # of the smaller scoring machine


class BreachError(Exception):
    """A broken rule and the remedy, in one line each. Every check raises it."""

    def __init__(self, what: str, remedy: str) -> None:  # noqa: D107
        super().__init__(f"FAIL  {what}\nFIX   {remedy}")


class SlowError(BreachError):
    """All test images take longer than the limit at this machine's speed; nothing else is wrong."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the checks, prints a table, and returns the exit status."""
    arguments = _parser().parse_args(argv)
    is_inner = arguments.table is not None
    try:
        if is_inner:
            TABLE.append(os.fdopen(arguments.table, "w"))
            _forbid_network()
        if is_inner and arguments.score:
            score(arguments.submission, arguments.score)
        elif is_inner:
            found, hours = probe(
                arguments.submission,
                arguments.expected,
                arguments.min_cosine,
                arguments.backwards,
                arguments.limit_hours,
            )
            np.savez(arguments.probe, names=np.array(list(found)), embeddings=np.stack([*found.values()]), hours=hours)
        else:
            check(
                arguments.submission, arguments.expected, arguments.min_cosine, arguments.timeout, arguments.limit_hours
            )
            if arguments.card:
                sign(arguments.card)
            _say("The submission is sound.")
            if arguments.score:
                with tempfile.TemporaryDirectory(prefix="check_submission_") as scratch:
                    _run_inner(
                        unpack(arguments.submission, Path(scratch)),
                        ["--score", arguments.score],
                        Path(scratch) / "printed.txt",
                        None,
                    )
    except Exception as error:
        _say(
            str(
                error
                if isinstance(error, BreachError)
                else BreachError(f"{type(error).__name__}: {_line(error)}", "try another machine, or torch")
            )
        )
        return TOLD if is_inner else TOO_SLOW if isinstance(error, SlowError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("submission", type=Path, help="the submission.zip")
    p.add_argument(
        "--expected", type=Path, help="folder with images and expected.npz (names, embeddings) to compare with"
    )
    p.add_argument(
        "--min-cosine",
        type=float,
        default=0.999,
        help="smallest cosine to an expected embedding (default: %(default)s)",
    )
    p.add_argument(
        "--score",
        type=Path,
        metavar="FOLDER",
        help="also embed FOLDER/query and FOLDER/index and print the host's metric",
    )
    p.add_argument(
        "--card", type=Path, help="the export's card.json; if the submission is sound, the torch version is added to it"
    )
    p.add_argument(
        "--timeout",
        type=float,
        default=3600.0,
        help="seconds that each of the two processes may take (default: %(default)s)",
    )
    p.add_argument(
        "--limit-hours",
        type=float,
        default=LIMIT_HOURS,
        metavar="HOURS",
        help=f"hours that {N_TEST_IMAGES:,} images may take at this machine's speed (default: %(default)s, as in "
        "the contest)",
    )
    p.add_argument("--table", type=int, help=argparse.SUPPRESS)  # for an inner process: the table's file descriptor
    p.add_argument("--probe", type=Path, help=argparse.SUPPRESS)  # for an inner process: the file of its embeddings
    p.add_argument("--backwards", action="store_true", help=argparse.SUPPRESS)
    return p


def check(
    zip_path: Path, expected: Path | None, min_cosine: float, timeout: float, limit_hours: float = LIMIT_HOURS
) -> None:
    """Checks a zip completely; raises BreachError at the first broken rule, SlowError if the time is the only one."""
    with tempfile.TemporaryDirectory(prefix="check_submission_") as scratch:
        model_path = unpack(zip_path, Path(scratch))
        row("zip", f"one file, {MODEL_NAME}, {model_path.stat().st_size / 1e6:.1f} MB")
        asked = ["--min-cosine", min_cosine, "--limit-hours", limit_hours]
        first, hours = _run_process(
            model_path, Path(scratch) / "first.npz", [*asked, *(["--expected", expected] if expected else [])], timeout
        )
        second, _ = _run_process(model_path, Path(scratch) / "second.npz", [*asked, "--backwards"], timeout)
    worst = max(first, key=lambda name: _difference(first[name], second[name]))
    if not _difference(first[worst], second[worst]) <= MAX_DIFFERENCE:
        remedy = (
            "the module changes its state or draws random numbers: call .eval() before tracing, and update no running "
            "statistics"
        )
        raise BreachError(
            f"two processes disagree on {worst} by {_difference(first[worst], second[worst]):.2g}", remedy
        )
    row("second process", f"the same within {_difference(first[worst], second[worst]):.1g}, images in reverse order")
    if hours > limit_hours:
        raise SlowError(
            f"{N_TEST_IMAGES:,} test images take {hours:.1f} hours at this machine's speed; the limit is "
            f"{limit_hours:g}. All other checks passed",
            "a smaller network, fewer pixels or fewer views; or, if the scorer's machine is faster than this one, hand "
            "it in as it is (a larger --limit-hours)",
        )


def unpack(zip_path: Path, folder: Path) -> Path:
    """Extracts saved_model.pt and returns its path. Raises BreachError if the zip holds anything else."""
    if not zip_path.is_file():
        raise BreachError(
            f"{zip_path} is not a file",
            "give the path of the submission.zip; door 08 writes it to artifacts/<recipe>/08_export/",
        )
    zip_again = f"pack the file itself again: zip -j submission.zip {MODEL_NAME}"
    try:
        with zipfile.ZipFile(zip_path) as archive:
            names = archive.namelist()
            if names != [MODEL_NAME]:
                raise BreachError(
                    f"the zip holds {_listed(names)}, it must hold exactly {MODEL_NAME} at its root", zip_again
                )
            return Path(archive.extract(MODEL_NAME, folder))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BreachError(f"{zip_path.name} is not a whole zip file ({error})", zip_again) from error
    except OSError as error:
        raise BreachError(
            f"{zip_path.name} cannot be unpacked ({error})",
            "make sure that it can be read, and set TMPDIR to a folder with free space",
        ) from error
    except (RuntimeError, NotImplementedError) as error:  # a password, or a compression that Python does not support
        raise BreachError(f"{MODEL_NAME} cannot be unpacked ({error})", f"{zip_again}, without a password") from error


def probe(
    model_path: Path,
    expected: Path | None,
    min_cosine: float,
    backwards: bool = False,
    limit_hours: float = LIMIT_HOURS,
) -> tuple[dict[str, np.ndarray], float]:
    """The work of one of the two processes: loads the module and embeds every test image, float32 [64] by name. Also
    returns the hours that all images of the contest take; 0 backwards."""
    started = time.perf_counter()
    module = load(model_path)
    row(
        "torch.jit.load",
        f"{time.perf_counter() - started:.1f} s, torch {torch.__version__}, {torch.get_num_threads()} threads",
        not backwards,
    )
    images = probe_images()
    embeddings = {}
    for name in reversed(images) if backwards else images:
        embeddings[name], seconds = _embed_twice(module, images[name], name)
        row(name, f"float32 [64], length {np.linalg.norm(embeddings[name]):.3f}, {seconds:.3f} s", not backwards)
    if max(_difference(e, embeddings[BLACK]) for e in embeddings.values()) <= 1e-6:
        raise BreachError(
            "all images get the same embedding",
            "the module ignores its input: check the range of its pixels, and its weights",
        )
    hours = 0.0 if backwards else _report_cost(module, Image.new("RGB", (640, 480), (90, 120, 150)), limit_hours)
    if expected is not None:
        compare(module, expected, min_cosine)
    return embeddings, hours


def load(model_path: Path) -> Any:
    """The module, loaded as in the scorer's example."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that torch.jit is deprecated
            return torch.jit.load(str(model_path)).eval()
    except Exception as error:
        remedy = (
            "write it by torch.jit.save of a traced or scripted module on the CPU (not torch.save), and let the "
            "writing finish"
        )
        raise BreachError(f"torch.jit.load cannot read {MODEL_NAME}: {_line(error)}", remedy) from error


def embed(module: Any, image: Image.Image, name: str) -> np.ndarray:
    """The embedding of one image, float32 [64].

    The module is called as in the scorer's example: with uint8 [1, 3, height, width], and `[0]` of its output is
    flattened.

    Raises:
        BreachError: the module raises, or its output has the wrong type, shape or dtype, or is not finite.
    """
    # Not contiguous, like the output of torchvision's PILToTensor.
    pixels = torch.as_tensor(np.array(image.convert("RGB"))).permute(2, 0, 1)
    try:
        with torch.no_grad():
            output = module(pixels.unsqueeze(0))
    except Exception as error:
        remedy = (
            "resize inside the graph, and script (not trace) whatever depends on height and width; no op may need a "
            "GPU, the network or torchvision"
        )
        raise BreachError(f"it raises on {name}: {_line(error, -1)}", remedy) from error
    if not isinstance(output, torch.Tensor):
        raise BreachError(
            f"it returns a {type(output).__name__} on {name}", f"return one tensor, float32 [1, {EMBEDDING_DIM}]"
        )
    if output.dim() == 0 or output.shape[0] != 1 or output[0].numel() != EMBEDDING_DIM:
        raise BreachError(
            f"it returns shape {list(output.shape)} on {name}",
            f"return [1, {EMBEDDING_DIM}]: the contest takes {EMBEDDING_DIM} numbers alone, and more score 0.0 "
            "(embed.dim of a recipe)",
        )
    if output.dtype != torch.float32:
        raise BreachError(
            f"it returns {str(output.dtype).removeprefix('torch.')} on {name}", "end the forward with .float()"
        )
    embedding: np.ndarray = output[0].flatten().cpu().numpy()
    if n_bad := int((~np.isfinite(embedding)).sum()):
        remedy = "divide by max(length, 1e-12) when normalising; look for half precision, and for a log or root of 0"
        raise BreachError(f"{n_bad} of {EMBEDDING_DIM} numbers are not finite on {name}", remedy)
    return embedding


def compare(module: Any, folder: Path, min_cosine: float) -> None:
    """Compares the embeddings of the images in `folder` with those in its expected.npz."""
    worst, worst_name = 2.0, ""
    names, expected = read_expected(folder)
    for name, target in zip(names, expected, strict=True):
        got = embed(module, _opened(folder / name), name)
        cosine = float(got @ target / max(float(np.linalg.norm(got) * np.linalg.norm(target)), 1e-12))
        if not cosine >= min_cosine:
            remedy = (
                "the zip and the expected embeddings come from different runs, or the graph prepares pixels "
                "differently: run the export again"
            )
            raise BreachError(f"{name}: cosine {cosine:.6f} to the expected embedding, below {min_cosine}", remedy)
        worst, worst_name = min((worst, worst_name), (cosine, name))
    row("expected embeddings", f"{len(names)} images, smallest cosine {worst:.7f} ({worst_name})")


def sign(card: Path) -> None:
    """Adds this torch's version to the card's `loaded_in`."""
    try:
        content = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BreachError(
            f"{card} cannot be read ({_line(error)})", "give the card.json that lies beside the submission.zip"
        ) from error
    content["loaded_in"] = sorted({*content.get("loaded_in", []), str(torch.__version__)})
    card.with_suffix(".tmp").write_text(json.dumps(content, indent=2), encoding="utf-8")
    os.replace(card.with_suffix(".tmp"), card)
    row("card", f"loaded in torch {', '.join(content['loaded_in'])}")


def score(model_path: Path, folder: Path) -> None:
    """Prints the host's metric for the images below `folder`, for each usage in the solution."""
    path = folder / "solution.csv"
    queries, index = (_images_under(folder / part, path.is_file()) for part in ("query", "index"))
    solution = read_solution(path) if path.is_file() else _solution_of_folders(queries, index)
    if missing := [i for i in solution if i not in queries] + sorted(
        {i for relevant, _ in solution.values() for i in relevant if i not in index}
    ):
        raise BreachError(
            f"{folder} lacks {_listed(missing)} of the solution",
            "each of its ids is the name of an image in query/ or index/",
        )
    module = load(model_path)
    found = nearest(
        _embedded(module, {name: queries[name] for name in solution}, "queries"), _embedded(module, index, "index")
    )
    for usage in sorted({usage for _, usage in solution.values()}):
        values = [precision(found[name], relevant) for name, (relevant, own) in solution.items() if own == usage]
        row(f"mP@5 {usage}".strip(), f"{np.mean(values):.4f}   {len(values):,} queries, {len(index):,} index images")


def precision(found: Sequence[str], relevant: set[str]) -> float:
    """The host's metric for one query: hits among the first m = min(5, n relevant) neighbours, divided by m."""
    m = min(N_NEIGHBOURS, len(relevant))
    return len(set(found[:m]) & relevant) / m


def nearest(queries: dict[str, np.ndarray], index: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """The five nearest index images of each query by Euclidean distance, nearest first; ties keep the index's order."""
    names, ids, found = list(index), list(queries), dict[str, list[str]]()
    matrix = np.stack(list(index.values())).astype(np.float64)
    for i in range(0, len(ids), BLOCK):
        block = np.stack([queries[name] for name in ids[i : i + BLOCK]]).astype(np.float64)
        distances = (matrix**2).sum(axis=1) - 2 * block @ matrix.T  # without the query's square, which changes no order
        order = np.argsort(distances, axis=1, kind="stable")[:, :N_NEIGHBOURS]
        found |= {name: [names[j] for j in row_] for name, row_ in zip(ids[i : i + BLOCK], order, strict=True)}
    return found


def read_solution(path: Path) -> dict[str, tuple[set[str], str]]:
    """Relevant index ids and usage of every query in the host's file (columns: id, index ids between spaces, Usage)."""
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))[1:]
    solution = {line[0]: (set(line[1].split()), line[2] if len(line) > 2 else "") for line in rows if len(line) > 1}
    if not solution or not all(relevant for relevant, _ in solution.values()):
        raise BreachError(
            f"{path} has no query, or one without a relevant image",
            "the file needs a header and three columns: id, index ids between spaces, Usage",
        )
    return solution


def _solution_of_folders(queries: dict[str, Path], index: dict[str, Path]) -> dict[str, tuple[set[str], str]]:
    by_class: dict[str, set[str]] = {}
    for name, path in index.items():
        by_class.setdefault(path.parent.name, set()).add(name)
    solution = {
        name: (by_class[path.parent.name], "") for name, path in queries.items() if path.parent.name in by_class
    }
    n_left_out = len(queries) - len(solution)
    row(
        "queries",
        f"{n_left_out} of {len(queries)} have no class folder in index/ and are left out",
        n_left_out > 0,
        "look",
    )
    if not solution:
        raise BreachError(
            "no query has a relevant image", "name the folders of query/ and index/ by class, or add solution.csv"
        )
    return solution


def _images_under(folder: Path, has_ids: bool) -> dict[str, Path]:
    """The images below `folder`. Their keys are ids, which are names without the ending, or paths relative to it."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    by_name = {path.stem if has_ids else str(path.relative_to(folder)): path for path in paths}
    if not paths or len(by_name) < len(paths):
        what = f"{len(paths) - len(by_name)} images with the name of another" if paths else "no image"
        raise BreachError(f"{folder} holds {what}", "give FOLDER/query and FOLDER/index, each file's name once")
    return by_name


def _embedded(module: Any, paths: dict[str, Path], what: str) -> dict[str, np.ndarray]:
    """The embedding of every image, float32 [64]; prints its progress."""
    embeddings, told = {}, time.monotonic()
    for name, path in paths.items():
        embeddings[name] = embed(module, _opened(path), str(path))
        if time.monotonic() > told + 10:
            told += 10
            row(what, f"{len(embeddings):,} of {len(paths):,}", mark="...")
    return embeddings


def read_expected(folder: Path) -> tuple[list[str], np.ndarray]:
    """The names of the images in expected.npz and their embeddings, float32 [n, 64]."""
    remedy = "give the export's parity/ folder: expected.npz with names and embeddings, and the images beside it"
    try:
        with np.load(folder / "expected.npz", allow_pickle=False) as stored:
            names, embeddings = [str(name) for name in stored["names"]], stored["embeddings"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BreachError(f"{folder / 'expected.npz'} cannot be read ({_line(error)})", remedy) from error
    if not names or embeddings.shape != (len(names), EMBEDDING_DIM):
        raise BreachError(
            f"{folder / 'expected.npz'} has {len(names)} names and embeddings of shape {list(embeddings.shape)}", remedy
        )
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise BreachError(f"{folder} lacks {_listed(missing)}", remedy)
    return names, embeddings


def probe_images() -> dict[str, Image.Image]:
    """Noise of every size in SIZES, the same at each call, and a black square, whose features may be all zero."""
    rng = np.random.default_rng(0)
    images = {
        f"{height}x{width}": Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in SIZES
    }
    return images | {BLACK: Image.new("RGB", (64, 64))}


def row(what: str, value: str, is_shown: bool = True, mark: str = "ok") -> None:
    """Prints one line of the table: a check that passed (ok), or something to look at (look)."""
    if is_shown:
        _say(f"{mark:<5} {what:<22} {value}")


def _say(text: str) -> None:
    """Prints a text. On a terminal, what failed is red, what is to be looked at is yellow."""
    stream = TABLE[0] if TABLE else sys.stdout
    if stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb":
        for word, escape in (("FAIL", "\x1b[1;31m"), ("slow", "\x1b[1;31m"), ("look", "\x1b[33m")):
            text = f"{escape}{word}\x1b[0m{text[4:]}" if text.startswith(word) else text
    print(text, file=stream, flush=True)


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except Exception as error:  # damaged files make PIL raise anything
        raise BreachError(
            f"{path} is not a whole image ({error})", "replace it; door 08 writes the images of expected.npz again"
        ) from error


def _embed_twice(module: Any, image: Image.Image, name: str) -> tuple[np.ndarray, float]:
    """The embedding, and the seconds of the second call; the first may compile."""
    first = embed(module, image, name)
    started = time.perf_counter()
    second = embed(module, image, name)
    seconds = time.perf_counter() - started
    if not _difference(first, second) <= MAX_DIFFERENCE:
        remedy = (
            "the module is not deterministic: call .eval() before tracing (dropout, batch norm), and draw no random "
            "numbers"
        )
        raise BreachError(f"two calls on {name} differ by {_difference(first, second):.2g}", remedy)
    return second, seconds


def _report_cost(module: Any, image: Image.Image, limit_hours: float) -> float:
    """Prints time (the median of a few calls) and memory beside the scoring machine's limits; returns the hours that
    all test images take."""
    typical = float(np.median([_embed_twice(module, image, "a photo")[1] for _ in range(N_TIMED)]))
    hours = typical * N_TEST_IMAGES / 3600
    memory_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)
    row(
        "time",
        f"{typical:.3f} s at 480x640; {N_TEST_IMAGES:,} take {hours:.1f} of {limit_hours:g} hours",
        mark="ok" if hours <= limit_hours else "slow",
    )
    row(
        "memory",
        f"{memory_gb:.2f} GB at the peak; the smaller machine has {HOST_MEMORY_GB:.0f} GB",
        mark="ok" if memory_gb <= HOST_MEMORY_GB else "look",
    )
    return hours


def _run_process(
    model_path: Path, results: Path, options: Sequence[object], timeout: float
) -> tuple[dict[str, np.ndarray], float]:
    """Runs `probe` in a fresh process and returns what it returns. Backwards, it shows no table."""
    shows = "--backwards" not in options
    _run_inner(model_path, ["--probe", results, *options], results.with_suffix(".txt"), timeout, shows)
    with np.load(results) as stored:
        return dict(zip(stored["names"].tolist(), stored["embeddings"], strict=True)), float(stored["hours"])


def _run_inner(
    model_path: Path, options: Sequence[object], printed: Path, timeout: float | None, is_shown: bool = True
) -> None:
    """Runs this script in a fresh process without GPU and network.

    Its table goes to this process' stdout. What the module and libraries print goes to the file `printed`. Raises
    SystemExit if the process has already printed the problem.
    """
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "CUDA_VISIBLE_DEVICES": ""}
    try:
        with os.fdopen(os.dup(1), "w") as table, printed.open("wb") as file:
            command = [sys.executable, __file__, str(model_path), "--table", str(table.fileno()), *map(str, options)]
            status = subprocess.run(
                command,
                env=environment,
                timeout=timeout,
                pass_fds=[table.fileno()],
                stdout=file,
                stderr=file,
                check=False,
            ).returncode
    except subprocess.TimeoutExpired:
        raise BreachError(
            f"the process had not ended after {timeout:.0f} s",
            "use a smaller model, or give a larger --timeout on a slow machine",
        ) from None
    lines = printed.read_text(encoding="utf-8", errors="replace").splitlines()
    if status == TOLD:
        raise SystemExit(1)
    if status != 0:
        print(*(f"      {line}" for line in lines[-20:]), sep="\n", file=sys.stderr, flush=True)
        remedy = (
            "a negative status is a signal: -9 is most often too little memory, -11 a crash inside an op; otherwise "
            "see the lines above"
        )
        raise BreachError(f"the process that ran the model ended with status {status}", remedy)
    if lines:
        row(
            "printed meanwhile",
            f"{len(lines):,} lines that are not from this checker, such as: {lines[0][:80]}",
            is_shown,
            "look",
        )


def _forbid_network() -> None:
    """Makes every use of a socket in this process an error. It cannot be undone."""

    def forbid(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith("socket."):
            raise PermissionError(f"the scorer has no network, and something used it ({event})")

    sys.addaudithook(forbid)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max())


def _listed(names: Sequence[str]) -> str:
    return (
        ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        if names
        else "nothing"
    )


def _line(error: Exception, which: int = 0) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[which][:300]


def _end(number: int, _: object) -> None:
    """Ends by an exception, so that the scratch folder is removed and the inner process ends, too."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, _end)
    sys.exit(main())
