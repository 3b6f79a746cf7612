"""Evaluation protocols: which images are queries, which are the index, and what is relevant.

They are those of the contest, of UnED (Ypsilantis et al. 2023) and of A Metric Learning Reality Check (Musgrave et al.
2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from guie.data.split import class_folds
from guie.embed.retrieval import K, mean_of_domains
from guie.embed.search import l2_normalised, search, vectors
from guie.evaluate.id_tables import COLUMNS, NO_CLASS
from guie.evaluate.intervals import class_interval, paired_p
from guie.evaluate.metrics import DEPTH, FULL_METRICS, METRICS
from guie.evaluate.ranks import ByLabel, ByPair, Relevance, all_ranks, ranks_within


@dataclass(frozen=True)
class Task:
    """One search.

    Attributes:
        name: Name of the domain or fold; "all" for a merged index.
        queries: int64 [n_queries], row numbers of the queries.
        index: int64 [n_index], row numbers of the index images, ascending. A query among them never finds itself.
        relevance: Which index images are relevant to which queries, by position in `queries` and `index`.
    """

    name: str
    queries: np.ndarray
    index: np.ndarray
    relevance: Relevance


def merged(ids: pd.DataFrame) -> list[Task]:
    """Every image queries all others of all domains."""
    rows, labels = np.arange(len(ids)), ids["class_id"].to_numpy()
    return [Task("all", rows, rows, ByLabel(labels, labels))]


def per_domain(ids: pd.DataFrame) -> list[Task]:
    """Every image queries the others of its domain."""
    return [
        _among(str(domain), np.flatnonzero(ids["domain"] == domain), ids) for domain in sorted(ids["domain"].unique())
    ]


def query_index(ids: pd.DataFrame) -> list[Task]:
    """The images of split query search those of split index."""
    return [_split_task(ids, ids["class_id"].to_numpy())]


def uned(ids: pd.DataFrame) -> list[Task]:
    """UnED: one merged index. A hit needs the same class and the same domain, because class numbers of different
    domains coincide.

    With a column split, the images of split query search those of split index. Without it, every image queries all
    others.

    Source: Ypsilantis et al. 2023, Towards Universal Image Embeddings.
    """
    domain, class_id = pd.factorize(ids["domain"])[0].astype(np.int64), ids["class_id"].to_numpy()
    values, dense = np.unique(class_id, return_inverse=True)
    labels = np.where(class_id < 0, NO_CLASS, domain * len(values) + dense)
    if "split" in ids:
        return [_split_task(ids, labels)]
    return [Task("all", np.arange(len(ids)), np.arange(len(ids)), ByLabel(labels, labels))]


def k_fold(ids: pd.DataFrame, n_folds: int = 4) -> list[Task]:
    """Classes are dealt to `n_folds` disjoint folds, and every image queries the others of its fold. Images of no class
    are in every fold.

    Source: the class-disjoint cross-validation of Musgrave et al. 2020, section 3.2.
    """
    fold, class_id = class_folds(ids, n_folds), ids["class_id"].to_numpy()
    return [_among(f"fold {i}", np.flatnonzero((fold == i) | (class_id < 0)), ids) for i in range(n_folds)]


def solution_task(ids: pd.DataFrame, solution: dict[str, tuple[str, frozenset[str]]], usage: str = "") -> Task:
    """The queries of a solution file search the images of split index, or all images without that column.

    Args:
        ids: image_id and perhaps split.
        solution: As `read_solution` returns it.
        usage: Only queries of this usage; "" takes all.

    Raises:
        ValueError: a query or a relevant image has no embedding.
    """
    place = {image_id: row for row, image_id in enumerate(ids["image_id"])}
    index = np.flatnonzero(ids["split"] == "index") if "split" in ids else np.arange(len(ids))
    position = {int(row): at for at, row in enumerate(index)}
    asked = [query for query, (kind, _) in solution.items() if kind == usage or not usage]
    relevant = {query: solution[query][1] for query in asked}
    _check_embedded(relevant, place, position)
    pairs = sorted((q, position[place[image]]) for q, query in enumerate(asked) for image in relevant[query])
    query, row = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return Task(
        usage or "all",
        np.array([place[q] for q in asked], dtype=np.int64),
        index,
        ByPair(query, row, len(asked), len(index)),
    )


def _check_embedded(relevant: dict[str, frozenset[str]], place: dict[str, int], position: dict[int, int]) -> None:
    """Checks that every query has an embedding, and every relevant image one in the index.

    Args:
        relevant: Ids of the relevant images of each query.
        place: Row number of each image that has an embedding.
        position: Position in the index of each row that is in it.

    Raises:
        ValueError: an embedding is missing.
    """
    absent = [query for query in relevant if query not in place]
    wanted = {image for images in relevant.values() for image in images}
    absent += sorted(image for image in wanted if place.get(image, -1) not in position)
    if absent:
        raise ValueError(
            f"{len(absent)} images of the solution have no embedding, or none in the index: {', '.join(absent[:3])}"
        )


def score_predictions(
    predictions: dict[str, list[str]], solution: dict[str, tuple[str, frozenset[str]]], usage: str = ""
) -> float:
    """The host's score of a list of ids per query, 0 to 1.

    Only the first m = min(n_relevant, 5) ids count. A repeated id scores nothing and still takes its rank. A query that
    is not predicted scores 0.

    Args:
        predictions: Ids found for each query, the nearest first.
        solution: As `read_solution` returns it.
        usage: Only queries of this usage; "" takes all.

    Raises:
        ValueError: a predicted query is not in the solution, or the solution has no query of this usage.

    Source: google-research/universal_embedding_challenge, metrics.py.
    """
    unknown = [query for query in predictions if query not in solution]
    if unknown:
        raise ValueError(f"{len(unknown)} predicted queries are not in the solution, {unknown[0]!r} for one")
    asked = {query: images for query, (kind, images) in solution.items() if kind == usage or not usage}
    if not asked:
        raise ValueError(f"the solution has no query of usage {usage!r}")
    total = 0.0
    for query, images in asked.items():
        m = min(len(images), K)
        total += len(images & set(predictions.get(query, [])[:m])) / m
    return total / len(asked)


def nearest_ids(
    embeddings: np.ndarray | Sequence[np.ndarray], ids: pd.DataFrame, task: Task, distance: str = "euclidean"
) -> dict[str, list[str]]:
    """The five nearest index images of each query, as `score_predictions` takes them."""
    names = ids["image_id"].to_numpy()
    rows, _ = search(_raw(embeddings, task.queries), vectors(embeddings, distance, task.index), K, _own(task))
    return {
        names[q]: [names[task.index[r]] for r in found if r >= 0] for q, found in zip(task.queries, rows, strict=True)
    }


def scored(
    embeddings: np.ndarray | Sequence[np.ndarray],
    ids: pd.DataFrame,
    tasks: list[Task],
    distance: str = "cosine",
    is_full: bool = False,
    is_quiet: bool = False,
) -> pd.DataFrame:
    """Every metric of every query.

    Args:
        embeddings: float [n_images, dim], in the order of `ids`; or several arrays (shards), one after the other.
        ids: image_id, class_id, domain.
        tasks: What a protocol made of `ids`.
        distance: `cosine` or `euclidean`.
        is_full: Also the metrics that need the ranks of all relevant images. Every similarity is computed and sorted
            for them.
        is_quiet: Without progress bars.

    Returns:
        One row per query: task, image_id, class_id, domain, n_relevant and one column per metric, NaN where nothing is
        relevant.

    Raises:
        ValueError: the numbers of embeddings and ids differ, or a task has no query or no index image.
    """
    if len(vectors(embeddings)) != len(ids):
        raise ValueError(
            f"there are {len(vectors(embeddings))} embeddings and {len(ids)} ids; row i of one must be row i of the "
            "other"
        )
    tables = []
    for task in tasks:
        if not len(task.queries) or not len(task.index):
            raise ValueError(f"task {task.name!r} has {len(task.queries)} queries and {len(task.index)} index images")
        asking, index, own = _raw(embeddings, task.queries), vectors(embeddings, distance, task.index), _own(task)
        ranks = (
            all_ranks(asking, index, task.relevance, own, is_quiet)
            if is_full
            else ranks_within(asking, index, task.relevance, DEPTH, own, is_quiet)
        )
        metrics = {name: metric(ranks) for name, metric in (FULL_METRICS if is_full else METRICS).items()}
        table = ids.iloc[task.queries][list(COLUMNS)].assign(task=task.name, n_relevant=ranks.n_relevant, **metrics)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def summary(queries: pd.DataFrame, before: pd.DataFrame | None = None, name: str = "mp5") -> dict[str, float]:
    """Means over domains of all metrics, the interval of one of them, and a test of its difference from another row.

    Args:
        queries: As `scored` returns them.
        before: The same queries with other embeddings.
        name: The metric of the interval and the test.

    Returns:
        n_queries; every metric; `<name>_low` and `<name>_high`, 95 % by resampling classes; p_vs_previous, see
        `paired_p` (NaN without `before`).
    """
    metrics = [column for column in queries.columns if column in FULL_METRICS]
    domains, values = queries["domain"].to_numpy(), queries[name].to_numpy()
    # with a solution file, images of no class can be queries: each is a unit of its own
    units = np.where(queries["class_id"] >= 0, queries["class_id"], -1 - np.arange(len(queries)))
    row: dict[str, float] = {"n_queries": int(np.isfinite(values).sum())}
    row |= {metric: mean_of_domains(queries[metric].to_numpy(), domains)[0] for metric in metrics}
    row[f"{name}_low"], row[f"{name}_high"] = class_interval(values, units, domains)
    row["p_vs_previous"] = np.nan if before is None else paired_p(values, before[name].to_numpy(), units, domains)
    return row


def spread(rows: list[dict[str, float]]) -> dict[str, float]:
    """Mean and sample standard deviation of each number over seeds or folds: `<name>` and `<name>_std` (NaN for a
    single row)."""
    table = pd.DataFrame(rows)
    return {str(name): float(table[name].mean()) for name in table} | {
        f"{name}_std": float(table[name].std(ddof=1)) for name in table
    }


def concatenated(models: list[np.ndarray]) -> np.ndarray:
    """The normalised embeddings of several models side by side, normalised again: float32 [n_images, sum of dims].

    Musgrave et al. call this "concatenated"; their "separated" is the mean of the models' scores.

    Source: Musgrave et al. 2020, section 3.2.
    """
    return l2_normalised(np.concatenate([l2_normalised(model) for model in models], axis=1))


PROTOCOLS: dict[str, Callable[[pd.DataFrame], list[Task]]] = {
    "merged": merged,
    "per_domain": per_domain,
    "query_index": query_index,
    "uned": uned,
    "k_fold": k_fold,
}


def _raw(embeddings: np.ndarray | Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    return vectors(embeddings).raw(rows)


def _among(name: str, rows: np.ndarray, ids: pd.DataFrame) -> Task:
    labels = ids["class_id"].to_numpy()[rows]
    return Task(name, rows, rows, ByLabel(labels, labels))


def _split_task(ids: pd.DataFrame, labels: np.ndarray) -> Task:
    if "split" not in ids or set(ids["split"]) != {"query", "index"}:
        raise ValueError("this protocol needs a column split that says query or index, and images of both")
    queries, index = (np.flatnonzero(ids["split"] == name) for name in ("query", "index"))
    return Task("all", queries, index, ByLabel(labels[queries], labels[index]))


def _own(task: Task) -> np.ndarray:
    """int64 [n_queries]: the query's own position in the index, -1 where it is not there."""
    place = np.minimum(np.searchsorted(task.index, task.queries), len(task.index) - 1)
    return np.where(task.index[place] == task.queries, place, -1)
