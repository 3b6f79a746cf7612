"""guie export: a trained model as files for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from guie.errors import run_to_the_end
from guie.examples import ExamplesFirst
from guie.export.formats import EMBEDDINGS, FORMATS, NEED_A_RUN
from guie.files import save_json
from guie.machine import check_names, check_writable
from guie.own.look import check_apart
from guie.own.photos import pairs, print_problems, read_photos
from guie.run import FOLDERS, Run, commit, set_up_logging
from guie.shown import counted

if TYPE_CHECKING:  # at run time only where there is work: --help answers without torch
    from guie.embed.codes import Codes
    from guie.export.take_away import Exported, Taken

EXAMPLES = """
guie export artifacts/demo --to my_model
guie export my_refit --to my_model --photos my_photos
"""
DESCRIPTION = """\
Writes a trained model as files for other programs:

  torchscript  saved_model.pt   torch.jit.load, any torch from 1.11 on
  program      saved_model.pt2  torch.export.load
  onnx         model.onnx       onnxruntime and others; images of any size
  hub          hub/             a folder for the Hugging Face hub, which
                                SentenceTransformer(folder,
                                trust_remote_code=True) loads
  embeddings   embeddings.parquet  of --photos, for vector stores: float32,
                                int8 and binary codes

Each file is compared with saved_model.pt, on images of the run and on odd
sizes, before it gets its name. The README in hub/ is a model card: scores with
intervals, licences of the data, limits. A saved_model.pt alone, without its
run, gives torchscript and embeddings."""
DONE = "export.json"


def parser() -> argparse.ArgumentParser:
    """The options."""
    usage = "guie export RUN|FILE --to FOLDER [options]"
    p = ExamplesFirst(EXAMPLES, prog="guie export", usage=usage, description=DESCRIPTION)
    p.add_argument(
        "model", type=Path, metavar="RUN|FILE", help="a run's folder, such as artifacts/demo, or a saved_model.pt"
    )
    p.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="where to write")
    p.add_argument("--formats", type=_formats, metavar="A,B", help="some of the formats above (default: all possible)")
    p.add_argument("--photos", type=Path, metavar="FOLDER", help="for embeddings: photos, or a CSV with path,label")
    p.add_argument(
        "--label-from", default="", metavar="REGEX", help="for embeddings: searched in paths; its group is the label"
    )
    p.add_argument("--device", default="auto", help="for embeddings: cpu, cuda, or auto (default)")
    return p


def _formats(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    unknown = [word for word in words if word not in FORMATS]
    if unknown or not words:
        raise argparse.ArgumentTypeError(f"{text!r}: formats are {', '.join(FORMATS)}")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status. An error is reported in one line, see `guie.errors`."""
    arguments = parser().parse_args(argv)
    return run_to_the_end(lambda: export(arguments), "guie export", arguments.to)


def export(arguments: argparse.Namespace) -> None:
    """Writes what the options ask for.

    Raises:
        ValueError: options that do not go together, or a format that cannot be made.
        FileNotFoundError: the model or the photos do not exist.
    """
    from guie.export.take_away import read_exported, take_away  # torch: not for --help

    set_up_logging(None)
    folder = arguments.to.resolve()
    check_names(to=folder)
    if arguments.photos is not None:
        check_apart(folder, arguments.photos, "--to")
    exported = read_exported(arguments.model)
    formats = _chosen(arguments, exported, folder)
    check_writable(folder, "--to")
    (folder / DONE).unlink(missing_ok=True)
    run = exported.run
    codes = None if run is None or exported.n_refitted else _codes(run)  # a refit's are fitted on the photos
    loss = None if run is None or codes is None else _code_loss(run, codes)

    def card(written: list[Taken]) -> str:
        from guie.export.card import card_text, facts_of

        assert run is not None  # take_away refuses hub without one
        return card_text(facts_of(run, loss, exported.n_refitted), written)

    written = take_away(exported, folder, [name for name in formats if name != EMBEDDINGS], card)
    if arguments.photos is not None:
        _save_embeddings(exported, codes, folder, arguments)
    save_json(folder / DONE, _done(exported, written, loss))
    print(f"done: {folder}")


def _chosen(arguments: argparse.Namespace, exported: Exported, folder: Path) -> tuple[str, ...]:
    """The formats to write: those of --formats, or all that can be.

    Raises:
        ValueError: options that do not go together.
    """
    run = exported.run
    possible = tuple(
        name
        for name in FORMATS
        if (run is not None or name not in NEED_A_RUN) and (name != EMBEDDINGS or arguments.photos is not None)
    )
    formats: tuple[str, ...] = arguments.formats or possible
    if (EMBEDDINGS in formats) != (arguments.photos is not None):
        raise ValueError("embeddings are those of photos: give --photos FOLDER, and embeddings among --formats")
    if run is not None and folder.is_relative_to(run.out):
        raise ValueError(f"--to {arguments.to} is inside the run {run.out}; choose a folder outside of it")
    return formats


def _done(exported: Exported, written: list[Taken], loss: pd.DataFrame | None) -> dict[str, Any]:
    """The contents of export.json: what was written, and how it compared."""
    return {
        "model": str(exported.path),
        "digest": exported.digest,
        "recipe": None if exported.run is None else exported.run.recipe.name,
        "commit": commit(),
        "formats": [taken.as_data() for taken in written],
        "code_loss": None if loss is None else loss.astype(object).where(loss.notna(), None).to_dict("records"),
    }


def _codes(run: Run) -> Codes | None:
    """The codes fitted on a run's training embeddings; None where door 07 left no embeddings."""
    from guie.embed.codes import fit_codes

    path = run.out / FOLDERS[7] / "train_embeddings.npy"
    return fit_codes(np.load(path, mmap_mode="r")) if path.is_file() else None


def _code_loss(run: Run, codes: Codes) -> pd.DataFrame:
    """The loss of mP@5 by int8 and binary codes on the run's validation images."""
    from guie.evaluate.code_loss import code_loss

    folder = run.out / FOLDERS[7]
    embeddings = np.load(folder / "val_embeddings.npy", mmap_mode="r")
    return code_loss(embeddings, pd.read_parquet(folder / "val_ids.parquet"), codes)


def _save_embeddings(exported: Exported, codes: Codes | None, folder: Path, arguments: argparse.Namespace) -> None:
    """Writes the photos' embeddings, and names the photos that have none."""
    from guie.export.vectors import PARQUET, Photo, save_vectors
    from guie.launch import choose_device

    photos = read_photos(arguments.photos, arguments.label_from)
    rows = [Photo(path, label, photos.file(path)) for path, label in photos.table.itertuples(index=False)]
    device = choose_device(arguments.device)
    problems = save_vectors(exported.script, exported.embeddings.shape[1], exported.digest, rows, folder, codes, device)
    megabytes = (folder / PARQUET).stat().st_size / 1e6
    print(f"{PARQUET:<16} {megabytes:7.1f} MB   {counted(len(rows) - len(problems), 'photo')}")
    left_out = [*pairs(photos.problems), *problems]
    print_problems(left_out, "not taken", "; those that cannot be read are listed in embeddings.json")
