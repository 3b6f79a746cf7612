"""Which queries the report shows, how each of them is scored, and which classes are taken for which."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from guie.embed.retrieval import K, host_precision

MAX_QUERIES = 96
PICKS = {"random": 12, "worst": 5, "confused": 4, "best": 4}  # queries of each domain
N_ALONE = 24  # random ones where there is one domain
N_MIXUPS = 15


def picks_of(n_domains: int) -> dict[str, int]:
    """How many queries of each kind are shown of each domain."""
    return PICKS | {"random": N_ALONE if n_domains == 1 else PICKS["random"]}


def n_counted(ids: pd.DataFrame) -> pd.Series:
    """How many results the contest's metric looks at: the number of other images of the class, but at most five.

    Args:
        ids: image_id, class_id of all validation images.

    Returns:
        int, by image id; 0 for an image that is alone in its class.
    """
    return _n_relevant(ids).clip(upper=K)


def _n_relevant(ids: pd.DataFrame) -> pd.Series:
    """The number of other images of the class, by image id."""
    sizes = ids.groupby("class_id")["image_id"].transform("size").set_axis(ids["image_id"])
    return sizes - 1


def query_scores(neighbours: pd.DataFrame, ids: pd.DataFrame) -> pd.Series:
    """Each query's precision under the contest's metric, see `host_precision`.

    Args:
        neighbours: query_id, rank (from 1), is_correct of one setting.
        ids: image_id, class_id of all validation images.

    Returns:
        float, by query id; queries without another image of their class are left out.
    """
    is_correct = neighbours.assign(is_correct=neighbours["is_correct"].astype(float))
    table = is_correct.pivot(index="query_id", columns="rank", values="is_correct").reindex(columns=range(1, K + 1))
    n_relevant = table.index.map(_n_relevant(ids)).to_numpy()
    return pd.Series(host_precision(table.fillna(0.0).to_numpy() > 0, n_relevant), table.index).dropna()


def mistakes(neighbours: pd.DataFrame) -> pd.Series:
    """The similarity of the nearest image where it is wrong, by query id: the larger, the surer the mistake.

    Args:
        neighbours: query_id, rank, similarity, is_correct of one setting.
    """
    wrong = neighbours[(neighbours["rank"] == 1) & ~neighbours["is_correct"].astype(bool)]
    return wrong.set_index("query_id")["similarity"]


def mix_ups(neighbours: pd.DataFrame, ids: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Which classes are most often taken for which, by the number of wrong neighbours that the metric counts.

    Args:
        neighbours: query_id, rank, image_id, is_correct of one setting.
        ids: image_id, class_id, domain.
        labels: By image id.

    Returns:
        domain, label, taken_for, n, query_id, image_id; at most `N_MIXUPS` rows, the most frequent first. The last two
        are an example: a query and its wrong neighbour, of the smallest rank.
    """
    wrong = counted_mistakes(neighbours, ids)
    pairs = pd.DataFrame(
        {
            "domain": wrong["query_id"].map(ids.set_index("image_id")["domain"]),
            "label": wrong["query_id"].map(labels),
            "taken_for": wrong["image_id"].map(labels),
            "query_id": wrong["query_id"],
            "image_id": wrong["image_id"],
        }
    )
    names = ["domain", "label", "taken_for"]
    told = {"n": ("query_id", "size"), "query_id": ("query_id", "first"), "image_id": ("image_id", "first")}
    counted = pairs.groupby(names).agg(**told).reset_index()
    return counted.sort_values(["n", *names], ascending=[False, True, True, True], ignore_index=True).head(N_MIXUPS)


def counted_mistakes(neighbours: pd.DataFrame, ids: pd.DataFrame) -> pd.DataFrame:
    """The wrong neighbours that the metric counts, those of the smallest rank first.

    Args:
        neighbours: query_id, rank, image_id, is_correct of one setting.
        ids: image_id, class_id.
    """
    is_counted = neighbours["rank"] <= neighbours["query_id"].map(n_counted(ids))
    wrong = neighbours[~neighbours["is_correct"].astype(bool) & is_counted]
    return wrong.sort_values(["rank", "query_id"], kind="stable")


def choose(
    scores: pd.Series,
    surprise: pd.Series,
    ids: pd.DataFrame,
    seed: int,
    n_queries: int = MAX_QUERIES,
    picks: Mapping[str, int] = PICKS,
) -> pd.DataFrame:
    """Queries of every domain: random ones, the worst, the most confused, and the best.

    Each query is of another class, while there are enough classes. The random ones are picked first, so that they are
    chosen without a look at what is found.

    Args:
        scores: By query id.
        surprise: By query id, of those whose nearest image is wrong: the larger, the more confused.
        ids: image_id, class_id, domain.
        seed: The choice is a function of it and of the ids, not of their order.
        n_queries: At most so many.
        picks: How many of each kind in each domain; the kinds pick in this order.

    Returns:
        image_id, class_id, domain, score, picked; domains and kinds in turn.
    """
    table = ids[ids["image_id"].isin(scores.index)].sort_values("image_id", ignore_index=True)
    table = table.assign(score=table["image_id"].map(scores), surprise=table["image_id"].map(surprise))
    table = table.sample(frac=1.0, random_state=seed)  # many queries have the same score: random ones of them are taken
    picked = [_picked(group, picks) for _, group in table.groupby("domain", sort=True)]
    chosen = _trimmed(pd.concat(picked, ignore_index=True), n_queries, picks) if picked else table.assign(picked="")
    return chosen.drop(columns="surprise")


def _picked(domain: pd.DataFrame, picks: Mapping[str, int]) -> pd.DataFrame:
    """The queries of one domain, whose rows come in random order."""
    picked = domain.head(0).assign(picked="")
    for word, count in picks.items():
        rows = _in_order(domain[~domain["image_id"].isin(picked["image_id"])], word)
        is_repeat = rows["class_id"].isin(picked["class_id"]) | rows.duplicated("class_id")
        rows = rows.assign(is_repeat=is_repeat)
        # A class that is not shown yet comes first; of the worst and the best, only among queries of the same score.
        by = ["score"] if word in ("worst", "best") else []
        is_ascending = [*(word == "worst" for _ in by), True]
        rows = rows.sort_values([*by, "is_repeat"], kind="stable", ascending=is_ascending)
        picked = pd.concat([picked, rows.drop(columns="is_repeat").head(count).assign(picked=word)])
    return picked


def _in_order(rows: pd.DataFrame, word: str) -> pd.DataFrame:
    """The rows that can be picked as `word`, the first choice first."""
    if word == "random":
        return rows
    column = "surprise" if word == "confused" else "score"
    return rows.dropna(subset=column).sort_values(column, kind="stable", ascending=word == "worst")


def _trimmed(chosen: pd.DataFrame, n_queries: int, picks: Mapping[str, int]) -> pd.DataFrame:
    """At most `n_queries`: the first query of each domain and kind, in the order of `picks`; then the second ones."""
    turn = chosen.groupby(["domain", "picked"]).cumcount()
    kind = chosen["picked"].map({word: i for i, word in enumerate(picks)})
    order = pd.DataFrame({"turn": turn, "kind": kind}).sort_values(["turn", "kind"], kind="stable")
    return chosen.loc[order.index[:n_queries]].reset_index(drop=True)
