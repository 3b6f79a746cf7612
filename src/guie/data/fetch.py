"""Door 00: downloads, checks and unpacks the sets that are openly hosted; says what to do for the others.

pooch compares the checksums. What it lacks is here: a broken download continues where it stopped. A file is done when
its mark is in `<folder>/.fetched/`; a run after a kill fetches the files without a mark.
"""

from __future__ import annotations

import logging
import re
import shutil
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests
from tqdm import tqdm

from guie.data.catalogue import DataSet, Download, known_sets
from guie.data.kaggle_copy import linked_folder
from guie.files import whole_file
from guie.settings.fields import nearest
from guie.shown import progress

N_WITHOUT = 3  # files in a row without a connection, after which the others are not tried, if none was fetched before
N_ROUNDS = 10  # the same in rounds of all downloads at a time, if some were fetched: about two minutes
N_TRIES = 5  # a download is given up after this many failures in a row that brought no new byte
TIMEOUT_S = 60.0
CHUNK = 1 << 20
MARKS = ".fetched"
# One archive is unpacked at a time: tarfile fails if two threads create the same folder, and the disk is the limit.
UNPACKING = threading.Lock()
log = logging.getLogger(__name__)


class NoConnectionError(OSError):
    """The server was not reached, or the connection was broken off too often."""


def fetch(kind: str, data_root: Path, only: str = "*", n_jobs: int = 4, is_kept: bool = False) -> int:
    """Downloads a set into its folder.

    Args:
        kind: Kind of the set: the name of a module in `guie.data.sources`.
        data_root: Folder that holds the sets' folders.
        only: A pattern of file names, such as `images_00?.tar`.
        n_jobs: Number of parallel downloads.
        is_kept: Whether archives are kept after they are unpacked.

    Returns:
        Number of files that were fetched; those with a mark are skipped.

    Raises:
        ValueError: the set is unknown; it needs an account (the message says what to do); its folder holds links to a
            copy from Kaggle; no file matches `only`; an archive holds a path outside its folder.
        OSError: a file cannot be downloaded, or its checksum is wrong. The other files are finished first, unless there
            is no connection.
    """
    data_set = _open_set(kind, data_root)
    folder = data_root / data_set.folder
    if linked_folder(folder) != folder:
        raise ValueError(
            f"{folder} holds links to the copy from Kaggle in {linked_folder(folder)}, into which the files would be "
            f"written; remove {folder}, which holds no images itself, or use another --data-root"
        )
    files = [file for file in data_set.files if fnmatch(name_of(file), only)]
    if not files:
        ends = f"{name_of(data_set.files[0])} to {name_of(data_set.files[-1])}"
        raise ValueError(f"no file of {kind} is called {only!r}; there are {ends}")
    waiting = [file for file in files if not _mark(folder, file).is_file()]
    log.info("%s: %d of %d files are to be fetched into %s", data_set.title, len(waiting), len(files), folder)
    with progress(total=len(waiting), desc=kind) as bar:
        failures = _fetch_files(waiting, folder, n_jobs, is_kept, bar)
    if failures:
        told = f"{len(failures)} of {len(waiting)} files could not be fetched; the same command tries them again"
        raise OSError(f"{told}. The first: {failures[0]}")
    return len(waiting)


def _open_set(kind: str, data_root: Path) -> DataSet:
    """The set of this kind.

    Raises:
        ValueError: it is unknown, or not openly hosted.
    """
    sets = known_sets()
    if kind not in sets:
        raise ValueError(f"no set {kind!r}; {nearest(kind, list(sets))}")
    if not sets[kind].files:
        command = f";\n  or, with an account at Kaggle: python data_prep/00_fetch.py {kind} --kaggle"
        told = by_hand(sets[kind], data_root) + (command if sets[kind].kaggle else "")
        raise ValueError(f"{sets[kind].title} is not openly hosted. {told}")
    return sets[kind]


def _fetch_files(files: list[Download], folder: Path, n_jobs: int, is_kept: bool, bar: tqdm) -> list[str]:
    """Fetches files, `n_jobs` at a time, and moves the bar by one for each.

    Returns:
        An error text for each file that failed, in the order in which they failed.

    Raises:
        OSError: there was no connection for too many files in a row (`N_WITHOUT`, `N_ROUNDS`).
    """
    failures = []
    with ThreadPoolExecutor(n_jobs) as pool:
        futures = {pool.submit(fetch_file, file, folder, is_kept): file for file in files}
        n_without, most = 0, N_WITHOUT
        for future in as_completed(futures):
            error = future.exception()
            n_without = n_without + 1 if isinstance(error, NoConnectionError) else 0
            if error is None:
                most = N_ROUNDS * n_jobs
            if n_without >= most:
                pool.shutdown(cancel_futures=True)
                raise OSError(f"{error}; what is fetched is kept, and the same command goes on") from error
            if isinstance(error, OSError | ValueError):
                failures.append(f"{name_of(futures[future])}: {error}")
                log.warning("%s", failures[-1])
            elif error is not None:
                raise error
            bar.update()
    return failures


def by_hand(data_set: DataSet, data_root: Path) -> str:
    """What to do for a set that cannot be downloaded."""
    return f"{data_set.page}\n  {data_set.how}\n  Put it into {data_root / data_set.folder}"


def name_of(file: Download) -> str:
    """The file's own name."""
    return PurePosixPath(urlsplit(file.url).path).name


def fetch_file(file: Download, folder: Path, is_kept: bool = False) -> None:
    """Downloads one file, checks it, unpacks it if it is an archive, and leaves its mark.

    Raises:
        OSError: it cannot be downloaded, or its checksum is wrong.
        ValueError: the archive is damaged, or holds a path outside its folder.
    """
    name, place = name_of(file), folder / file.folder
    mark = _mark(folder, file)
    mark.parent.mkdir(parents=True, exist_ok=True)
    is_archive = name.endswith((".tar", ".tar.gz", ".tgz", ".zip"))
    target = (mark.parent if is_archive else place) / name
    md5 = _md5(file.md5)
    cache = pooch.create(
        target.parent, "", registry={name: f"md5:{md5}" if md5 else None}, urls={name: file.url}, retry_if_failed=1
    )
    pooch.get_logger().setLevel("WARNING")
    try:
        cache.fetch(name, downloader=Resuming(target.with_name(name + ".part")))
    except (requests.RequestException, ValueError) as error:
        raise _failure(file.url, error) from error
    if is_archive:
        with UNPACKING:
            unpack(target, place)
        if not is_kept:
            target.unlink()
    with whole_file(mark) as temporary:
        temporary.write_text(f"{file.url}\n{md5}\n")


class Resuming:
    """A downloader for pooch that continues a partial download, of this run or of a killed one.

    Args:
        part: File of the bytes received so far. The server's ETag for this version of the file is kept beside it, so
            that parts of two versions are never joined.
    """

    def __init__(self, part: Path) -> None:
        """Nothing is sent yet."""
        self.part, self.tag = part, part.with_name(part.name + ".etag")

    def __call__(self, url: str, output_file: str | Path, pooch: Any, check_only: bool = False) -> None:
        """Writes `output_file`.

        Raises:
            requests.RequestException: the server refuses, or the connection fails `N_TRIES` times in a row without a
                new byte.
        """
        n_failed = 0
        while True:
            size = self._size()
            try:
                self._receive(url, size)
                break
            except requests.HTTPError as error:
                if error.response is None or error.response.status_code < 500:
                    raise
                failure: requests.RequestException = error
            except requests.RequestException as error:
                failure = error
            n_failed = 0 if self._size() > size else n_failed + 1
            if n_failed == N_TRIES:
                raise failure
            time.sleep(min(2.0**n_failed / 8, 10.0))
        self.tag.unlink(missing_ok=True)
        shutil.move(self.part, output_file)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _receive(self, url: str, size: int) -> None:
        headers = {"Range": f"bytes={size}-"} if size else {}
        if size and self.tag.is_file():
            headers["If-Range"] = self.tag.read_text()
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
            if answer.status_code == 416:  # nothing is left after `size`, or the file has become shorter
                if answer.headers.get("Content-Range") == f"bytes */{size}":
                    return
                self.part.unlink()
                raise requests.ConnectionError(f"{url} has changed; it is fetched anew")
            answer.raise_for_status()
            goes_on = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {size}-")
            if tag := answer.headers.get("ETag"):
                self.tag.write_text(tag)
            with self.part.open("ab" if goes_on else "wb") as handle:
                for chunk in answer.iter_content(CHUNK):
                    handle.write(chunk)


def unpack(archive: Path, folder: Path) -> None:
    """Checks all names in a tar or zip file, then unpacks it.

    Raises:
        ValueError: it is damaged, or it holds an absolute name, a name with `..`, or a link out of the folder. Nothing
            is unpacked then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as packed:
                _check_names(archive, packed.namelist())
                packed.extractall(folder)
            return
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
            _check_names(archive, (member.name for member in members))
            for member in members:
                tarfile.data_filter(member, str(folder))
            tar.extractall(folder, members=members, filter="data")
    except tarfile.FilterError as error:
        raise ValueError(f"{archive} is not unpacked: {error}") from error
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{archive} is damaged: {str(error).splitlines()[0]}; delete it and fetch it again") from error


def _check_names(archive: Path, names: Iterator[str] | list[str]) -> None:
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{archive} is not unpacked: it holds {name!r}, which leads out of the folder")


def _md5(known: str) -> str:
    """The checksum; it is downloaded if `known` is an address."""
    if not known.startswith("http"):
        return known
    try:
        answer = requests.get(known, timeout=TIMEOUT_S)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise _failure(known, error) from error
    found = re.match(r"\s*([0-9a-fA-F]{32})\b", answer.text)
    if not found:
        raise OSError(f"{known} begins with {answer.text[:40]!r}, expected a checksum of 32 hexadecimal digits")
    return found[1].lower()


def _failure(url: str, error: Exception) -> OSError:
    """The error with a message in one line, without names of the library's internals."""
    if isinstance(error, requests.ConnectionError | requests.Timeout):
        return NoConnectionError(f"no connection to {urlsplit(url).netloc}, or it was broken off {N_TRIES} times")
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return OSError(f"{url}: the server answers {error.response.status_code} {error.response.reason}")
    return OSError(str(error))


def _mark(folder: Path, file: Download) -> Path:
    return folder / MARKS / f"{PurePosixPath(file.folder).name or 'list'}-{name_of(file)}.done"
