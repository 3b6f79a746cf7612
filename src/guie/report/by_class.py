"""How well each class is found, and which other class its images are taken for."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from guie.report.choice import counted_mistakes, query_scores

COLUMNS = ("label", "domain", "n_images", "mp5", "mp5_first", "example", "taken_for", "wrong_image", "n_wrong")
MAX_CLASSES = 100  # rows of the page's table; the file beside it has all
NO_CLASSES = pd.DataFrame(columns=list(COLUMNS))


def by_class(by_setting: Mapping[str, pd.DataFrame], ids: pd.DataFrame, labels: pd.Series) -> pd.DataFrame:
    """Every class that has a query, the worst first.

    Args:
        by_setting: query_id, rank, image_id, is_correct of each setting in the order of the ladder, the exported one
            last.
        ids: image_id, class_id, domain of all validation images.
        labels: By image id.

    Returns:
        `COLUMNS`, by class_id. `mp5` is the mean over the class's queries with the exported setting, `mp5_first` that
        with the first one (NaN where there is no other). `taken_for` is the label of the class that gives most of the
        wrong neighbours that the metric counts, `n_wrong` their number; '' and 0 without any. `example` and
        `wrong_image` are the ids of a query and of such a neighbour, of the smallest rank; without any, `example` is
        the first query and `wrong_image` ''.
    """
    first, *_ = by_setting.values()
    *_, final = by_setting.values()
    known = ids.set_index("image_id")
    class_of = known["class_id"]
    scores = query_scores(final, ids)
    queries = pd.DataFrame({"class_id": class_of.reindex(scores.index), "mp5": scores}).sort_index()
    queries["mp5_first"] = query_scores(first, ids).reindex(queries.index) if len(by_setting) > 1 else float("nan")
    queries["example"] = queries.index
    table = queries.groupby("class_id").agg({"mp5": "mean", "mp5_first": "mean", "example": "first"})
    table["label"] = table["example"].map(labels)
    table["domain"] = table["example"].map(known["domain"])
    table["n_images"] = class_of.value_counts().reindex(table.index)
    table = table.join(_worst_of_each(final, ids, class_of))
    table["example"] = table["query_id"].fillna(table["example"])
    table["taken_for"] = table["image_id"].map(labels).fillna("")
    table["wrong_image"] = table["image_id"].fillna("")
    table["n_wrong"] = table["n_wrong"].fillna(0).astype(int)
    by = ["mp5", "n_images", "domain", "label"]
    return table[list(COLUMNS)].sort_values(by, ascending=[True, False, True, True], kind="stable")


def _worst_of_each(final: pd.DataFrame, ids: pd.DataFrame, class_of: pd.Series) -> pd.DataFrame:
    """n_wrong, query_id, image_id by class_id: how often a class is taken for the commonest other one, an example."""
    wrong = counted_mistakes(final, ids)
    wrong = wrong.assign(class_id=wrong["query_id"].map(class_of), other=wrong["image_id"].map(class_of))
    told = {"n_wrong": ("query_id", "size"), "query_id": ("query_id", "first"), "image_id": ("image_id", "first")}
    pairs = wrong.groupby(["class_id", "other"]).agg(**told).reset_index()
    pairs = pairs.sort_values(["n_wrong", "other"], ascending=[False, True], kind="stable")
    return pairs.drop_duplicates("class_id").set_index("class_id").drop(columns="other")
