"""Door 00 --kaggle: downloads a set's copy on Kaggle by kagglehub, and links it to the set's folder.

kagglehub keeps what it downloads in a cache: `KAGGLEHUB_CACHE`, else `.kagglehub/` in the data root. It continues after
a broken connection. In a Kaggle notebook it attaches the copy instead. The set's folder holds links, so that the names
are those that the set's reader expects, and nothing is stored twice.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

from guie.data.catalogue import DataSet, KaggleCopy, known_sets
from guie.settings.fields import nearest

CACHE = ".kagglehub"
MARK = ".kaggle"  # in a folder of links: the handle and the folder that they lead to
MAX_FOLDERS = 1000  # folders of a download in which the set is looked for
DEPTH = 3
ACCOUNT = (
    "make a token at https://www.kaggle.com/settings and set KAGGLE_API_TOKEN=TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY"
)


def fetch_from_kaggle(kind: str, data_root: Path) -> Path:
    """Downloads a set's copy on Kaggle, or finds it in kagglehub's cache, and links it.

    Args:
        kind: Kind of the set: the name of a module in `guie.data.sources`.
        data_root: Folder that holds the sets' folders.

    Returns:
        The folder that the links lead to.

    Raises:
        ValueError: the set is unknown or has no known copy; kagglehub is not installed; Kaggle wants an account, or
            its rules accepted; the copy has another layout; the set's folder holds something else than the links of
            an earlier start.
        OSError: Kaggle cannot be reached, or it does not send the copy.
    """
    data_set, copy = _set_with_copy(kind)
    place = data_root / data_set.folder
    _check_replaceable(place)
    if importlib.util.find_spec("kagglehub") is None:
        raise ValueError(f"--kaggle needs the package kagglehub; run: pip install 'kagglehub>=1', then {ACCOUNT}")
    os.environ.setdefault("KAGGLEHUB_CACHE", str((data_root / CACHE).resolve()))
    folder = folder_of(copy, _download(copy))
    link_copy(copy, folder, place)
    return folder


def _set_with_copy(kind: str) -> tuple[DataSet, KaggleCopy]:
    """The set of this kind, and its copy.

    Raises:
        ValueError: the set is unknown, or no copy of it is known.
    """
    sets = known_sets()
    if kind not in sets:
        raise ValueError(f"no set {kind!r}; {nearest(kind, list(sets))}")
    copy = sets[kind].kaggle
    if copy is None:
        others = ", ".join(name for name, known in sets.items() if known.kaggle)
        raise ValueError(
            f"no copy of {sets[kind].title} on Kaggle is known that has the layout of its reader; --kaggle fetches "
            f"{others}"
        )
    return sets[kind], copy


def _check_replaceable(place: Path) -> None:
    """Raises ValueError if there is something in a set's place beside the links that an earlier start left there."""
    if os.path.lexists(place) and (place.is_symlink() or not (place / MARK).is_file()):
        raise ValueError(f"{place} exists already, and is not a copy from Kaggle; move it away, or use --data-root")
    if others := _added(place):
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise ValueError(
            f"{place} also holds {', '.join(others[:3])}{more}, which is not of the copy from Kaggle, and would be "
            "removed; move it away, or use --data-root"
        )


def _added(place: Path) -> list[str]:
    """What is in a folder of links that is no link: somebody has put it there."""
    entries = sorted(place.iterdir()) if place.is_dir() else []
    return [path.name for path in entries if not path.is_symlink() and path.name != MARK]


def _download(copy: KaggleCopy) -> Path:
    """The folder of the copy in kagglehub's cache.

    Raises:
        ValueError: Kaggle wants an account, or its rules accepted.
        OSError: Kaggle cannot be reached, or it does not send the copy.
    """
    import kagglehub
    from kagglehub import exceptions

    try:
        if "/" in copy.handle:
            return Path(kagglehub.dataset_download(copy.handle))
        return Path(kagglehub.competition_download(copy.handle))
    except exceptions.UnauthenticatedError as error:
        raise ValueError(f"{copy.call} needs an account at Kaggle: {ACCOUNT}") from error
    except requests.HTTPError as error:
        raise _refused(copy, error) from error
    except requests.RequestException as error:
        raise OSError(f"{copy.call}: no connection to Kaggle; the same command goes on") from error
    except (exceptions.DataCorruptionError, exceptions.BackendError, exceptions.NotFoundError) as error:
        raise OSError(f"{copy.call}: {_first_line(error)}; the same command tries again") from error


def _refused(copy: KaggleCopy, error: requests.HTTPError) -> Exception:
    """What Kaggle's answer means, and the remedy, in one line."""
    status = error.response.status_code if error.response is not None else 0
    if status in (401, 403):
        rules = f" and accept the rules at https://www.kaggle.com/competitions/{copy.handle}/rules"
        return ValueError(
            f"{copy.call}: Kaggle answers {status}, no permission: {ACCOUNT}{'' if '/' in copy.handle else rules}"
        )
    if status == 404:
        return OSError(f"{copy.call}: Kaggle answers 404, there is no such copy any more; fetch the set by hand")
    return OSError(f"{copy.call}: Kaggle answers {status or _first_line(error)}; the same command tries again")


def _first_line(error: Any) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def folder_of(copy: KaggleCopy, download: Path) -> Path:
    """The folder of a download that holds what the set's reader expects: the download itself, or one within it.

    Raises:
        ValueError: there is none; the message lists what the download holds.
    """
    wanted = [name for _, name in copy.holds]
    for folder in _folders(download):
        if all((folder / name).exists() for name in wanted):
            return folder
    there = sorted(path.name for path in download.iterdir())
    raise ValueError(
        f"{download}, {copy.call}, has no folder with {', '.join(wanted)}; it holds "
        f"{', '.join(there[:5]) or 'nothing'}{', ...' if len(there) > 5 else ''}. Arrange it by hand as "
        "data_prep/README.md shows"
    )


def _folders(top: Path) -> Iterator[Path]:
    """`top` and the folders below it, the highest first, at most `DEPTH` levels and `MAX_FOLDERS` folders."""
    level, n_seen = [top], 0
    for _ in range(DEPTH):
        deeper: list[Path] = []
        for folder in level:
            n_seen += 1
            if n_seen > MAX_FOLDERS:
                return
            yield folder
            deeper += sorted(path for path in folder.iterdir() if path.is_dir())[:MAX_FOLDERS]
        level = deeper


def link_copy(copy: KaggleCopy, folder: Path, place: Path) -> None:
    """Makes `place`, a folder of links to all that `folder` holds, under the names that the set's reader expects.

    An archive that Kaggle unpacked may lie in a folder of its own name (`train/train/0.jpg`): the inner one is linked,
    unless `holds` gives the folder another name. Links of an earlier start are replaced.

    Raises:
        ValueError: there is something else in `place`.
    """
    _check_replaceable(place)
    ours = {theirs: own for own, theirs in copy.holds if own != theirs}
    making = place.with_name(f".{place.name}.linking")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    for path in sorted(folder.iterdir()):
        (making / ours.get(path.name, path.name)).symlink_to((path if path.name in ours else _inner(path)).resolve())
    (making / MARK).write_text(f"{copy.call}\n{folder}\n", encoding="utf-8")
    if place.is_dir():
        for path in place.iterdir():
            path.unlink()
        place.rmdir()
    making.rename(place)


def linked_folder(place: Path) -> Path:
    """The folder that the links in `place` lead to; `place` itself if it is no folder of links."""
    try:
        return Path((place / MARK).read_text(encoding="utf-8").splitlines()[1])
    except (OSError, IndexError):
        return place


def _inner(path: Path) -> Path:
    """The folder within a folder of the same name, where it is alone there; else `path`."""
    inner = path / path.name
    if not inner.is_dir():
        return path
    with os.scandir(path) as entries:
        is_alone = sum(1 for _ in itertools.islice(entries, 2)) == 1
    return inner if is_alone else path
