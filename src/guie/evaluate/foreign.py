"""Scores a model that was trained without one domain on the validation images of all domains. Queries and index are the
same, whichever domain was left out.

Every validation image of every domain is a query, and together they are the index. So the queries of a domain are
scored by the model that never saw the domain and by the models that did. Index and queries are equal, so only the
training differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd

from guie.data.packed import GIVEN, NEVER, images_of
from guie.embed.accelerator import make_accelerator
from guie.embed.ensemble import Combined, Features, MemberFeatures, rows_of
from guie.embed.features import FeatureStore
from guie.embed.fitted import Embedded, check_rows, embed
from guie.embed.halves import Halves
from guie.embed.joined import Joined
from guie.embed.pca import blocks, mixed, moments_of, pca_of
from guie.embed.retrieval import mean_of_domains, retrieve
from guie.embed.sizes import Sized
from guie.evaluate.foreign_table import REFITTED
from guie.files import whole_file
from guie.run import Run
from guie.settings.embed import Embed, Member, PostProcess, Setting

ASKED = ("val", NEVER)
QUERIES = "queries.parquet"
LEAST_CLASSES = 2  # of a domain that is asked about: of one, the spread between its classes is unknown
LEAST_GIVEN = 2  # images of a foreign domain that a PCA is refitted to: of one there is no covariance


class Stacked:
    """Features of several splits, one after the other, read from the disk when they are asked for."""

    def __init__(self, parts: Sequence[np.ndarray | Halves | Joined | Sized]) -> None:
        """Takes parts of one width."""
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)]).tolist()

    def __len__(self) -> int:
        """The number of rows of all parts."""
        return int(self._starts[-1])

    def __getitem__(self, rows: slice) -> np.ndarray:
        """float32 [n_rows, width] of consecutive rows."""
        first, last, _ = rows.indices(len(self))
        pairs = zip(self._parts, self._starts[:-1], strict=True)
        return np.concatenate([part[max(first - start, 0) : max(last - start, 0)] for part, start in pairs])


def asked_features(features: Features) -> Features:
    """The same features, but `val` stands for everything that is asked about: `ASKED`."""

    def of_asked(member: Member, view: str, split: str) -> np.ndarray | Halves | Joined | Sized | Stacked:
        if split != "val":
            return features(member, view, split)
        return Stacked([features(member, view, own) for own in ASKED])

    return cast(Features, of_asked)  # Combined reads slices of rows alone, which Stacked has, too


def ask(run: Run, folder: Path, share: float = 0.0) -> dict[str, float]:
    """Scores every setting of a fold's ladder on all queries, and writes the results as `queries.parquet`.

    Args:
        run: A run whose recipe names a `data.foreign_domain`, and whose stages have been trained.
        folder: Where to write.
        share: Weight of the foreign domain's other images, without labels, in the fit of a further row's PCA; with 1
            they are its only images. Each setting with a PCA and without post-processing gets such a row. 0 adds none.

    Returns:
        never and seen: the last setting's mP@5 of the foreign domain, and its mean over the others.
    """
    accelerator = make_accelerator(run.device)
    packed = images_of(run)
    check_rows(run, packed)
    features = asked_features(MemberFeatures(FeatureStore(run, packed, accelerator)))
    asked = packed.index.iloc[np.concatenate([rows_of(packed, split) for split in ASKED])]
    tables = []
    for setting in run.recipe.embed.settings:
        embedded = embed(run, setting, features)
        answers = _answers(setting.name, embedded.by_split["val"], asked, setting.post)
        tables.append(answers)
        if share and can_refit(setting):
            vectors = _refitted(run, setting, features, embedded, share)
            tables.append(_answers(f"{setting.name}{REFITTED}", vectors, asked, setting.post))
    with whole_file(folder / QUERIES) as temporary:
        pd.concat(tables, ignore_index=True).to_parquet(temporary, index=False)
    return {
        name: round(mean_of_domains(own["precision"].to_numpy(), own["domain"].to_numpy())[0], 6)
        for name, own in (("never", answers[answers["is_never"]]), ("seen", answers[~answers["is_never"]]))
    }


def can_refit(setting: Setting) -> bool:
    """Whether a setting ends in a PCA that a file of door 08 could hold."""
    return bool(setting.pca_dim) and setting.post == PostProcess()


def n_refit(embed: Embed, share: float) -> int:
    """How many images of the foreign domain a refit needs: `LEAST_GIVEN`; where they count alone, more than the PCA has
    dimensions."""
    if not share:
        return 0
    dims = (row.pca_dim for row in embed.settings if can_refit(row))
    return LEAST_GIVEN if share < 1 else 1 + max(dims, default=1)


def _refitted(run: Run, setting: Setting, features: Features, embedded: Embedded, share: float) -> np.ndarray:
    """Embeddings, float32 [n_asked, dim], by the PCA that `guie refit` would fit to the images that are given.

    Raises:
        ValueError: they count alone, and are no more than the PCA has dimensions.
    """
    assert embedded.moments is not None
    given = moments_of([Combined(run, setting, features, GIVEN)], setting.pca_dim if share == 1 else 1)
    pca = pca_of(mixed([(given, share), (embedded.moments, 1 - share)]), setting.pca_dim, setting.whiten)
    return np.concatenate([pca.transform(block) for block in blocks(Combined(run, setting, features, "val"))])


def _answers(row: str, vectors: np.ndarray, asked: pd.DataFrame, post: PostProcess) -> pd.DataFrame:
    """The precision of every query of a row.

    Returns:
        row, dim, image_id, class (source/label, the same for every seed), domain, is_never, precision (NaN where
        nothing is relevant) and recall_at_1.
    """
    found = retrieve(vectors, asked["class_id"].to_numpy(), post)
    return pd.DataFrame(
        {
            "row": row,
            "dim": vectors.shape[1],
            "image_id": asked["image_id"].to_numpy(),
            "class": (asked["source"] + "/" + asked["source_label"]).to_numpy(),
            "domain": asked["domain"].to_numpy(),
            "is_never": (asked["split"] == NEVER).to_numpy(),
            "precision": found.precision,
            "recall_at_1": found.recall_at_1,
        }
    )


def to_be_asked(index: pd.DataFrame) -> pd.DataFrame:
    """What every fold of a seed will be asked, before anything is trained: image_id, class, domain, and whether
    something is relevant, `is_query`."""
    asked = index[index["split"] == "val"]
    return pd.DataFrame(
        {
            "image_id": asked["image_id"],
            "class": asked["source"] + "/" + asked["source_label"],
            "domain": asked["domain"],
            "is_query": asked.groupby("class_id")["class_id"].transform("size") >= 2,
        }
    )


def check_domains(index: pd.DataFrame, chosen: Sequence[str], n_refit: int, seed: int) -> list[str]:
    """The domains that can be left out, in alphabetical order.

    Args:
        index: Of a pack in which no domain is foreign.
        chosen: Those that are wanted; empty for all that have a class to ask about.
        n_refit: Images of other classes that each must have for a refit; 0 for none.
        seed: By which the classes were chosen, for messages.

    Raises:
        ValueError: there is one domain, a chosen one does not exist, or one has too few classes or images.
    """
    table = _counts(index)
    if len(table) < 2:
        raise ValueError(
            f"the recipe's images are of one domain ({', '.join(table.index)}): without it nothing is left to train "
            "on; name a domain for each of data.sources"
        )
    unknown = [name for name in chosen if name not in table.index]
    if unknown:
        raise ValueError(
            f"--domains names {unknown[0]!r}, of which there is no image; there are {', '.join(table.index)}"
        )
    names = sorted(set(chosen) or set(table.index[table["n_asked"] > 0]))
    for name, problem in _problems(table, names, n_refit):
        raise ValueError(
            f"domain {name}, seed {seed}: {problem}; change data.val_class_share or data.min_per_class, or leave it "
            f"out of --domains: {' '.join(other for other in names if other != name) or 'no other is left'}"
        )
    return names


def _counts(index: pd.DataFrame) -> pd.DataFrame:
    """n_asked (validation classes of two or more images), n_trained (training classes) and n_given (their images, which
    a refit may see where the domain is left out) of each domain that has labelled images."""
    is_train, is_val = index["split"] == "train", index["split"] == "val"
    sizes = index[is_val].groupby(["domain", "class_id"]).size()
    counts = {
        "n_asked": (sizes >= 2).groupby("domain").sum(),
        "n_trained": index[is_train].groupby("domain")["class_id"].nunique(),
        "n_given": index[is_train].groupby("domain").size(),
    }
    names = sorted(index["domain"][is_train | is_val].unique())
    return pd.DataFrame(counts, index=names).fillna(0).astype(int)


def _problems(table: pd.DataFrame, names: Sequence[str], n_refit: int) -> Iterator[tuple[str, str]]:
    """Pairs of a domain that cannot be left out and the reason."""
    for name in names:
        own, others = table.loc[name], table.drop(index=name)
        if own["n_asked"] < LEAST_CLASSES:
            yield name, f"{own['n_asked']} class of two or more images can be asked about, {LEAST_CLASSES} are needed"
        if others["n_trained"].sum() < LEAST_CLASSES:
            yield name, f"the others have {others['n_trained'].sum()} classes to train on, {LEAST_CLASSES} are needed"
        if not others["n_asked"].sum():
            yield name, "the others have no class of two or more images to validate the training with"
        if own["n_given"] < n_refit:
            smaller = f" (a --refit below 1 needs {LEAST_GIVEN})" if own["n_given"] >= LEAST_GIVEN else ""
            yield name, f"a refit needs {n_refit} images of its other classes, there are {own['n_given']}{smaller}"
