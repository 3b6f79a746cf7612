"""The command `guie search`: indexes a folder of photos, finds the photos most alike, and shows them on a page."""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from guie.data.image import EXTENSIONS, is_image
from guie.errors import run_to_the_end, tell_error
from guie.examples import ExamplesFirst, given_path
from guie.machine import check_writable_file
from guie.search.port import DEFAULT_PORT, listen
from guie.shown import folded

if TYPE_CHECKING:
    from guie.search.session import Session  # at run time where it is needed: it takes seconds to import

EXAMPLES = """
guie search my_photos --query a.jpg   index a folder; the photos most alike
guie search my_photos --serve         the same as a page on this machine
"""
DESCRIPTION = """\
A folder, or a CSV with the columns path,label, is indexed first; later starts
index only photos that are new or have changed. The model is that of the newest
run on these photos (guie train), else the shipped one. --model names another;
later starts take it, too, until --model auto. The search is exact: the query is
compared with all photos by cosine; if cosines are equal, the first path comes
first. Without a folder, guie search a.jpg searches an existing index.
"""
SERVE = (
    "a page on 127.0.0.1; Ctrl-C ends it. Other computers cannot open it; other users of this computer can, and see "
    "the photos"
)
N_ON_PAGE = 400
N_NEAREST = 10


def parser() -> argparse.ArgumentParser:
    """The options."""
    usage = "guie search FOLDER|PHOTO [options]"
    p = ExamplesFirst(EXAMPLES, prog="guie search", usage=usage, description=DESCRIPTION)
    p.add_argument(
        "what",
        nargs="*",
        type=given_path,
        metavar="FOLDER|PHOTO",
        help="a folder or CSV of photos; or photos to search with",
    )
    asking = p.add_argument_group("asking")
    asking.add_argument(
        "--query",
        nargs="+",
        action="extend",
        type=given_path,
        default=[],
        metavar="PHOTO",
        help="photos to search with",
    )
    asking.add_argument("-k", type=int, help=f"number of photos most alike (default: {N_NEAREST})")
    asking.add_argument("--json", action="store_true", help="print one JSON document")
    asking.add_argument("--csv", action="store_true", help="print a table: query,rank,path,label,cosine")
    asking.add_argument(
        "--with-itself", action="store_true", help="a photo that is in the index may find itself, at cosine 1"
    )
    pages = p.add_argument_group("pages")
    pages.add_argument("--serve", action="store_true", help=SERVE)
    pages.add_argument("--port", type=int, help=f"port of the page (default: {DEFAULT_PORT}, or a free one)")
    pages.add_argument("--html", type=given_path, metavar="FILE", help="write one page that needs no server")
    pages.add_argument("--n-photos", type=int, help=f"most photos in that page's grid (default: {N_ON_PAGE})")
    index = p.add_argument_group("index")
    index.add_argument(
        "--model",
        metavar="MODEL",
        help="saved_model.pt of any run, a run's folder, shipped, or another network as guie look --towers names it; "
        "auto goes back to the first choice",
    )
    index.add_argument(
        "--index",
        type=given_path,
        metavar="FOLDER",
        help="the index's own folder (default: NAME/search in GUIE_OUT or artifacts/)",
    )
    index.add_argument("--out", type=given_path, metavar="DIR", help="the index is DIR/search")
    index.add_argument(
        "--label-from", default="", metavar="REGEX", help="label of a photo: the group of this expression in its path"
    )
    index.add_argument(
        "--no-update", action="store_true", help="use the index as it is, also where the photos are gone"
    )
    index.add_argument("--verify", action="store_true", help="compare the bytes of all photos, not only size and time")
    index.add_argument("--device", default="auto", help="cpu, cuda, or auto (default)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `guie search`; returns the exit status."""
    arguments = parser().parse_args(argv)
    return run_to_the_end(lambda: _search(arguments), "guie search", interrupted="the same command goes on")


def _search(arguments: argparse.Namespace) -> int:
    photos, queries = _told_apart(arguments.what, arguments.no_update)
    queries += arguments.query
    _check(arguments, photos, queries)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(arguments.port)) if arguments.serve else None
        if arguments.html and photos is not None:
            _check_html(arguments.html, photos)
        if arguments.html:
            check_writable_file(arguments.html, "--html")
        return _work(arguments, photos, queries, listening)


def _work(
    arguments: argparse.Namespace, photos: Path | None, queries: Sequence[Path], listening: socket.socket | None
) -> int:
    """Indexes, answers, writes and serves what was asked for; returns the exit status."""
    from guie.search.session import Session  # torch is imported here, so that --help and mistakes answer at once

    warnings.filterwarnings("ignore", module="PIL")  # of odd EXIF; photos that cannot be read are reported by name
    shows_results = bool(queries)
    stream = sys.stderr if shows_results else sys.stdout

    def say(text: str) -> None:
        print(folded(text, "      ", stream), file=stream, flush=True)

    session = Session.open(arguments, photos, queries[0] if queries else None, say)
    if arguments.html:
        _check_html(arguments.html, Path(session.index.header.photos))
    status = _answer(session, arguments, queries) if queries else 0
    if arguments.html:
        from guie.search.offline import write_page

        write_page(arguments.html, session.index, arguments.n_photos or N_ON_PAGE, arguments.k or N_NEAREST, say)
    if listening is not None:
        from guie.search.server import serve

        serve(session.index, session.embedder, listening, say, session.device)
    return status


def _answer(session: Session, arguments: argparse.Namespace, queries: Sequence[Path]) -> int:
    """Prints the neighbours of each query, and an error line for each that cannot be read."""
    from guie.search.answer import answer, as_csv, as_json, as_text, read_queries

    asked = read_queries(queries, session.index, session.embedder)
    answers = answer(asked, session.index, arguments.k or N_NEAREST, arguments.with_itself)
    as_asked: Callable[..., str] = as_json if arguments.json else as_csv if arguments.csv else as_text
    text = as_asked(answers, session.index)
    if text:
        print(text)
    broken = [query for query in asked if query.problem]
    for query in broken:
        tell_error(f"the query {query.name}: {query.problem}")
    return 2 if broken else 0


def _told_apart(what: Sequence[Path], as_it_is: bool) -> tuple[Path | None, list[Path]]:
    """The folder or CSV of photos, and the photos to search with.

    Args:
        what: The paths that were named.
        as_it_is: Whether the index is not updated, so that the folder may be gone.

    Raises:
        FileNotFoundError: one of them does not exist.
        ValueError: there are two folders.
    """
    photos: Path | None = None
    queries: list[Path] = []
    for path in what:
        if not path.exists() and not (as_it_is and path.suffix.lower() not in EXTENSIONS):
            raise FileNotFoundError(f"{path} does not exist; name a folder of photos, or a photo to search with")
        is_photo = path.is_file() and (path.suffix.lower() in EXTENSIONS or is_image(path))
        if is_photo:
            queries.append(path)
        elif photos is None:
            photos = path
        else:
            raise ValueError(f"{photos} and {path} are two folders; index them one after the other")
    return photos, queries


def _check_html(page: Path, photos: Path) -> None:
    """Raises ValueError for a page among the photos."""
    from guie.own.look import check_apart  # which imports pandas

    check_apart(page, photos, "--html")


def _check(arguments: argparse.Namespace, photos: Path | None, queries: Sequence[Path]) -> None:
    """Raises ValueError for options that do not go together or are out of range."""
    if arguments.index and arguments.out:
        raise ValueError("--index and --out: choose one; --out DIR is --index DIR/search")
    if photos is None and not queries and not arguments.index and not arguments.out:
        raise ValueError("name a folder of photos, or a photo to search with; guie search --help shows both")
    if arguments.json and arguments.csv:
        raise ValueError("--json and --csv: choose one")
    if (arguments.json or arguments.csv) and not queries:
        raise ValueError("--json and --csv print what is found for a photo; name one with --query")
    if arguments.serve and queries:
        raise ValueError("--serve takes no query; drop the photo on the page")
    _check_effects(arguments, queries)
    for name, low, high in (("k", 1, 10_000), ("n_photos", 1, 100_000), ("port", 0, 65_535)):
        value = getattr(arguments, name)
        if value is not None and not low <= value <= high:
            option = "-k" if name == "k" else f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is {value}, must be {low} to {high:,}")
    if photos is None and (arguments.model or arguments.label_from or arguments.verify):
        raise ValueError("--model, --label-from and --verify are for indexing; name the folder of the photos, too")
    if arguments.no_update and (arguments.verify or arguments.model or arguments.label_from):
        raise ValueError("--no-update uses the index as it is; leave out --verify, --model and --label-from")


def _check_effects(arguments: argparse.Namespace, queries: Sequence[Path]) -> None:
    """Raises ValueError for an option that would change nothing."""
    has_page = arguments.html is not None
    for option, is_given, has_effect, what in (
        ("-k", arguments.k is not None, bool(queries) or has_page, "--query and --html; the page of --serve shows 24"),
        ("--n-photos", arguments.n_photos is not None, has_page, "the page of --html"),
        ("--port", arguments.port is not None, arguments.serve, "the page of --serve"),
        ("--with-itself", arguments.with_itself, bool(queries), "--query"),
    ):
        if is_given and not has_effect:
            raise ValueError(f"{option} changes nothing here: it is for {what}")
