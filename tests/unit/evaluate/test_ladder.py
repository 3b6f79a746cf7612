"""Door 07's table on embeddings that are known: old columns first and unchanged, then what the scores are worth."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from combined_rows import Rows

from guie.embed.fitted import Embedded
from guie.embed.retrieval import retrieve
from guie.evaluate import ladder
from guie.evaluate.intervals import paired_p
from guie.recipe import Embed, Member, PostProcess, Setting

N_CLASSES, N_IMAGES = 40, 6


def packed() -> SimpleNamespace:
    labels = np.repeat(np.arange(N_CLASSES), N_IMAGES)
    domains = np.where(labels % 4, "toys", "art")  # of unequal size
    index = pd.DataFrame(
        {"image_id": [f"i{i}" for i in range(len(labels))], "class_id": labels, "domain": domains, "split": "val"}
    )
    return SimpleNamespace(index=index)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, list[np.ndarray]]:
    folder = tmp_path_factory.mktemp("run")
    labels = packed().index["class_id"].to_numpy()
    centres = np.random.default_rng(0).normal(size=(N_CLASSES, 8))
    noise = np.random.default_rng(1).normal(size=(len(labels), 8))
    embeddings = [centres[labels] + level * noise for level in (2.0, 1.0, 1.0, 1.0)]
    member = (Member("pretrained", 64),)
    names = (
        Setting("first", member),
        Setting("better", member),
        Setting("the same", member),
        Setting("expanded", member, post=PostProcess(n_expanded=3)),
    )
    by_name = {setting.name: vectors for setting, vectors in zip(names, embeddings, strict=True)}
    recipe = SimpleNamespace(
        embed=Embed(settings=names),
        data=SimpleNamespace(foreign_domain=""),
        seed=3,
        chosen_on_validation=lambda setting: ("the setting",) * (setting.name == "the same"),
    )
    run = SimpleNamespace(device="cpu", recipe=recipe, folder=lambda number: folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "images_of", lambda run: packed())
        patch.setattr(ladder, "MemberFeatures", lambda *arguments: None)
        patch.setattr(
            ladder,
            "embed",
            lambda run, setting, features: Embedded(
                {"val": by_name[setting.name]}, {"val": Rows(by_name[setting.name])}
            ),
        )
        patch.setattr(
            ladder,
            "Combined",
            lambda run, setting, features, split: Rows(by_name[setting.name] if split == "val" else np.ones((9, 8))),
        )
        final = ladder.score_ladder(run)  # type: ignore[arg-type]
    table = pd.read_csv(folder / "scores.csv")
    assert final == {"mp5": table["mp5"].iloc[-1], "r1": table["r1"].iloc[-1], "n_settings": 4}
    check_files(folder)
    return table, embeddings


def check_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "dimensions.csv",
        "neighbours.parquet",
        "scores.csv",
        "train_embeddings.npy",
        "train_ids.parquet",
        "val_embeddings.npy",
        "val_ids.parquet",
    ]
    neighbours = pd.read_parquet(folder / "neighbours.parquet")
    assert (
        list(dict.fromkeys(neighbours["setting"])) == ["first", "better", "the same", "expanded"]
        and len(neighbours) == 4 * N_CLASSES * N_IMAGES * 5
    )


def test_columns_that_were_there_come_first(scores: tuple[pd.DataFrame, list[np.ndarray]]) -> None:
    old = [
        "setting",
        "members",
        "views",
        "projection",
        "dim",
        "n_queries",
        "n_index",
        "mp5",
        "mp5_art",
        "mp5_toys",
        "r1",
        "r1_art",
        "r1_toys",
        "seed",
        "commit",
    ]
    new = ["r5", "r10", "map_at_r", "r_precision", "map_at_100", "mp5_low", "mp5_high", "p_vs_previous", "chosen_on"]
    widths = ["dim_16", "dim_32", "dim_64", "dim_128", "dim_all"]  # those of the tables' eight numbers are all of them
    assert scores[0].columns.tolist() == old + new + widths
    assert scores[0]["dim_all"].tolist() == scores[0]["mp5"].tolist() and scores[0][widths[:-1]].isna().all(axis=None)


def host_scores(embeddings: np.ndarray, index: pd.DataFrame) -> dict[str, float]:
    """The host's metric in plain loops: hits among the first m ranks over m, where m = min(relevant, 5), by Euclidean
    distance of unit vectors.

    Source: google-research/universal_embedding_challenge, metrics.py; domains alike, as the contest's organisers weigh
    them.
    """
    unit = [[x / sum(y * y for y in row) ** 0.5 for x in row] for row in embeddings.tolist()]
    classes, domains = index["class_id"].tolist(), index["domain"].tolist()
    by_domain: dict[str, list[tuple[float, float]]] = {}
    for q, query in enumerate(unit):
        distances = sorted(
            (sum((a - b) ** 2 for a, b in zip(query, other, strict=True)), i) for i, other in enumerate(unit) if i != q
        )
        m = min(sum(c == classes[q] for c in classes) - 1, 5)
        hits = [classes[i] == classes[q] for _, i in distances[:m]]
        by_domain.setdefault(domains[q], []).append((sum(hits) / m, float(hits[0])))
    scores: dict[str, float] = {}
    for at, name in enumerate(("mp5", "r1")):
        of_domain = {domain: sum(pair[at] for pair in pairs) / len(pairs) for domain, pairs in by_domain.items()}
        scores |= {name: sum(of_domain.values()) / len(of_domain)} | {
            f"{name}_{domain}": value for domain, value in of_domain.items()
        }
    return scores


def test_scores_are_those_of_the_host(scores: tuple[pd.DataFrame, list[np.ndarray]]) -> None:
    table, embeddings = scores
    index = packed().index
    for i in range(3):
        expected = host_scores(embeddings[i], index)
        assert len(expected) == 6
        assert table.iloc[i][list(expected)].tolist() == pytest.approx(list(expected.values()), abs=1e-6)


def test_interval_and_test_of_every_row(scores: tuple[pd.DataFrame, list[np.ndarray]]) -> None:
    table, embeddings = scores
    assert ((table["mp5_low"] < table["mp5"]) & (table["mp5"] < table["mp5_high"])).all()
    assert np.isnan(table["p_vs_previous"][0])
    assert table["p_vs_previous"][1] < 0.01 and table["p_vs_previous"][2] == 1.0
    index = packed().index
    labels, domains = index["class_id"].to_numpy(), index["domain"].to_numpy()
    precision = [
        retrieve(vectors, labels, post).precision
        for vectors, post in ((embeddings[3], PostProcess(n_expanded=3)), (embeddings[2], PostProcess()))
    ]
    assert table["p_vs_previous"][3] == pytest.approx(paired_p(*precision, labels, domains), abs=1e-6)


def test_row_that_was_chosen_on_validation_says_so(scores: tuple[pd.DataFrame, list[np.ndarray]]) -> None:
    assert scores[0]["chosen_on"].fillna("").tolist() == ["", "", "validation (the setting)", ""]


def test_deeper_metrics_are_empty_where_the_ranking_is_not_that_of_the_embeddings(
    scores: tuple[pd.DataFrame, list[np.ndarray]],
) -> None:
    deeper = scores[0][["r5", "r10", "map_at_r", "r_precision", "map_at_100"]]
    assert deeper[:3].notna().all(axis=None) and deeper[3:].isna().all(axis=None)
