"""Images without labels: the table that door 02 writes of them, and the search for copies of validation images among
them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from guie.data.duplicates import LEFT_TRAINING, LEFT_UNLABELLED, find_duplicates
from guie.data.manifest import BALANCED_COLUMNS, read_manifest, write_manifest
from guie.settings.data import UNLABELLED, Source

FILE = f"{UNLABELLED}.parquet"  # of door 02; absent where no source is unlabelled
NO_CLASS = -1
log = logging.getLogger(__name__)


def write_unlabelled(folder: Path, manifests: Path, sources: Sequence[Source]) -> dict[str, int]:
    """Writes the rows of the unlabelled sources, sorted by image_id; without such a source the file is removed.

    Args:
        folder: Of door 02.
        manifests: Folder of door 01, with a manifest for each source.
        sources: The recipe's, labelled or not.

    Returns:
        The number of images of each unlabelled source.
    """
    own = [source for source in sources if source.is_unlabelled]
    if not own:
        (folder / FILE).unlink(missing_ok=True)
        return {}
    parts = [read_manifest(manifests / f"{source.name}.parquet") for source in own]
    rows = pd.concat(parts, ignore_index=True).assign(split=UNLABELLED, class_id=NO_CLASS)
    write_manifest(folder / FILE, rows.sort_values("image_id", ignore_index=True), BALANCED_COLUMNS)
    counts = {source.name: len(part) for source, part in zip(own, parts, strict=True)}
    for name, n in counts.items():
        text = "%s: %s images without labels; no score asks about them, and only stages that name them train on them"
        log.info(text, name, f"{n:,}")
    return counts


def read_unlabelled(folder: Path) -> pd.DataFrame:
    """What `write_unlabelled` wrote; no rows where it wrote nothing."""
    path = folder / FILE
    return read_manifest(path, BALANCED_COLUMNS) if path.is_file() else pd.DataFrame(columns=list(BALANCED_COLUMNS))


def all_duplicates(rows: pd.DataFrame, n_bits: int) -> pd.DataFrame:
    """As `find_duplicates`, with images of the split `unlabelled` among the rows.

    An unlabelled image that is also in validation is left out, since a projection must not be fitted on queries. Other
    twins of unlabelled images are no matter: they have no label that another could contradict.

    Args:
        rows: See `find_duplicates`.
        n_bits: See `find_duplicates`.
    """
    is_unlabelled = rows["split"] == UNLABELLED
    found = find_duplicates(rows[~is_unlabelled], n_bits)
    if not is_unlabelled.any():
        return found
    # in the place of training images, whose copies in validation `find_duplicates` looks for
    compared = rows[is_unlabelled | (rows["split"] == "val")]
    compared = compared.assign(split=compared["split"].replace(UNLABELLED, "train"))
    leaks = find_duplicates(compared, n_bits)
    leaks = leaks[leaks["outcome"] == LEFT_TRAINING].assign(split=UNLABELLED, outcome=LEFT_UNLABELLED)
    return pd.concat([found, leaks]).sort_values("image_id", ignore_index=True) if len(leaks) else found
