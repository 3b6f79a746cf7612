"""Lists of words on which a PCA is fitted: text files with a word on each line."""

from __future__ import annotations

from pathlib import Path

from guie.files import digest_of_file
from guie.run import Run
from guie.settings.fit import FitWords


def words_path(run: Run, name: str) -> Path:
    """The file of words called `name`.

    Args:
        run: The run, with its data root.
        name: An absolute path, or one relative to the data root.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path = run.data_root / name  # which is `name` itself where that is absolute
    if not path.is_file():
        raise FileNotFoundError(
            f"the words {path} do not exist; put the file there, or name another in fit_on (FitWords.file)"
        )
    return path


def words_digest(run: Run) -> str:
    """Digests of the files of words that the recipe's PCAs are fitted on, with spaces between; '' without any.

    Raises:
        FileNotFoundError: there is no such file.
    """
    embed = run.recipe.embed
    entries = [entry for row in embed.settings if row.pca_dim for entry in embed.fit_on_of(row)]
    names = dict.fromkeys(entry.file for entry in entries if isinstance(entry, FitWords))
    return " ".join(digest_of_file(words_path(run, name)) for name in names)


def read_words(run: Run, name: str) -> list[str]:
    """The words of a file, each once, in its order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not text in UTF-8, or has fewer than two words.
    """
    path = words_path(run, name)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except ValueError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}; save it as UTF-8") from error
    words = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if len(words) < 2:
        raise ValueError(f"{path} has {len(words)} words, a PCA needs more; write one on each line")
    return words
