"""What fewer and more numbers score: scikit-learn's PCA and precisions by loops, on a few images."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from combined_rows import Rows
from sklearn import decomposition

from guie.embed.fitted import Embedded
from guie.embed.pca import moments_of, pca_of
from guie.embed.retrieval import retrieve
from guie.evaluate import dimensions
from guie.evaluate.dimensions import dimension_table, precisions_by_width, width_scores
from guie.recipe import Member, PostProcess, Setting

DIM, EXPORTED = 40, 24
MEMBERS = (Member("pretrained", 64, output="feature"),)


@pytest.fixture(scope="module")
def given() -> tuple[Rows, Rows, pd.DataFrame]:
    """Images of 12 classes in two domains; the later numbers matter less."""
    rng = np.random.default_rng(4)
    scale = np.linspace(1.0, 0.3, DIM)
    labels = np.repeat(np.arange(12), 6)
    val = (rng.normal(size=(12, DIM))[labels] + rng.normal(scale=1.6, size=(72, DIM))) * scale
    train = rng.normal(size=(90, DIM)) * scale + 0.2
    ids = pd.DataFrame({"class_id": labels, "domain": np.where(labels < 6, "toys", "food")})
    return Rows(train), Rows(val), ids


def table_of(given: tuple[Rows, Rows, pd.DataFrame], setting: Setting) -> pd.DataFrame:
    train, val, ids = given
    if not setting.pca_dim:
        embedded = Embedded({"val": val.values, "train": train.values})
    else:
        moments = moments_of([train])
        pca = pca_of(moments, setting.pca_dim, setting.whiten)
        embedded = Embedded({"val": pca.transform(val.values), "train": pca.transform(train.values)}, pca, moments)
    combined: Any = val
    labels = ids["class_id"].to_numpy()
    own = retrieve(embedded.by_split["val"], labels).precision
    moments = embedded.moments or moments_of([train])
    return dimension_table(
        precisions_by_width(setting, combined, embedded.by_split["val"], own, moments, labels), embedded, ids
    )


def by_hand(given: tuple[Rows, Rows, pd.DataFrame], dim: int, whiten: float = 0.0) -> float:
    """Mean over the domains of the host's precision, of scikit-learn's PCA to `dim`; the index holds both domains."""
    train, val, ids = given
    pca = decomposition.PCA(dim).fit(train.values.astype(np.float64))
    return mean_by_domain(pca.transform(val.values.astype(np.float64)) / pca.explained_variance_ ** (whiten / 2), ids)


def mean_by_domain(vectors: np.ndarray, ids: pd.DataFrame) -> float:
    labels = ids["class_id"].to_numpy()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    values = pd.Series(0.0, index=range(len(labels)))
    for i in range(len(labels)):
        order = [j for j in np.argsort(-(unit @ unit[i]), kind="stable") if j != i][:5]
        values[i] = np.mean([labels[j] == labels[i] for j in order])  # each class has five other images
    return float(values.groupby(ids["domain"].to_numpy()).mean().mean())


def test_widths_are_prefixes_of_one_pca_and_all_numbers_without_it(given: tuple[Rows, Rows, pd.DataFrame]) -> None:
    table = table_of(given, Setting("final", MEMBERS, EXPORTED, whiten=0.5))
    floats = table[~table["code"].str.contains("int8|binary")].set_index("dim")
    assert floats.index.tolist() == [16, EXPORTED, 32, DIM]
    assert floats["is_exported"].tolist() == [False, True, False, False]
    for dim in (16, EXPORTED, 32):
        assert floats.loc[dim, "mp5"] == pytest.approx(by_hand(given, dim, 0.5), abs=1e-6), dim
    assert floats.loc[DIM, "mp5"] == pytest.approx(mean_by_domain(given[1].values, given[2]), abs=1e-6)
    assert floats.loc[DIM, "code"] == "all, without PCA"
    expected = floats.loc[EXPORTED, "mp5"] - floats["mp5"]
    np.testing.assert_allclose(floats["loss"], expected, atol=2e-6)
    assert floats["p"].isna().tolist() == [False, True, False, False] and (floats["mp5_low"] < floats["mp5"]).all()
    assert floats["n_bytes"].tolist() == [4 * dim for dim in floats.index]


def test_codes_are_of_the_exported_embedding(given: tuple[Rows, Rows, pd.DataFrame]) -> None:
    table = table_of(given, Setting("final", MEMBERS, EXPORTED)).iloc[4:].set_index("code")
    assert table.index.tolist() == ["int8", "binary", "binary, 100 re-ranked by int8"]
    assert (table["dim"] == EXPORTED).all() and table["n_bytes"].tolist() == [24, 3, 27]
    train, val, ids = given
    pca = decomposition.PCA(EXPORTED).fit(train.values.astype(np.float64))
    signs = np.where(pca.transform(val.values.astype(np.float64)) > 0, 1.0, -1.0)
    # ties of few bits may be broken otherwise: the bound is a query's share
    assert table.loc["binary", "mp5"] == pytest.approx(mean_by_domain(signs, ids), abs=0.03)
    assert table.loc["binary", "loss"] > 0.02 and abs(table.loc["int8", "loss"]) < 0.02


def test_embedding_without_pca_is_itself_and_prefixes_of_its_own_pca(given: tuple[Rows, Rows, pd.DataFrame]) -> None:
    table = table_of(given, Setting("head", MEMBERS))
    floats = table[table["code"] == "float32"].set_index("dim")
    assert floats.index.tolist() == [16, 32, DIM] and floats["is_exported"].tolist() == [False, False, True]
    assert floats.loc[16, "mp5"] == pytest.approx(by_hand(given, 16), abs=1e-6)
    assert floats.loc[DIM, "mp5"] == pytest.approx(mean_by_domain(given[1].values, given[2]), abs=1e-6)


def test_widths_that_need_more_images_or_memory_are_left_out(
    given: tuple[Rows, Rows, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, ids = given
    few = (Rows(train.values[:20]), val, ids)
    table = table_of(few, Setting("final", MEMBERS, 12))
    assert table["dim"].tolist() == [12, 16, DIM, 12] and table["code"].iloc[-1] == "int8"  # 12 bits are no bytes
    monkeypatch.setattr(dimensions, "MOST_BYTES", 4 * DIM * len(val) - 1)
    assert table_of(few, Setting("final", MEMBERS, 12))["dim"].tolist() == [12, 16, 12]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (Setting("final", MEMBERS, EXPORTED), [16, EXPORTED, 32, DIM]),
        (Setting("expanded", MEMBERS, EXPORTED, post=PostProcess(n_expanded=2)), [EXPORTED]),
        (Setting("raw", MEMBERS), [DIM]),
    ],
    ids=lambda value: value.name if isinstance(value, Setting) else "",
)
def test_columns_of_the_ladder(given: tuple[Rows, Rows, pd.DataFrame], setting: Setting, expected: list[int]) -> None:
    """A PCA has all widths; with post-processing, or without a PCA, there is only the setting's own."""
    train, val, ids = given
    combined: Any = val
    labels = ids["class_id"].to_numpy()
    moments = moments_of([train]) if setting.pca_dim else None
    vectors = pca_of(moments, EXPORTED, 0.0).transform(val.values) if moments else val.values
    own = np.linspace(0.0, 1.0, len(labels))
    by_width = precisions_by_width(setting, combined, vectors, own, moments, labels)
    assert list(by_width) == expected
    assert by_width[vectors.shape[1]][1] is own  # what the setting scored, with its post-processing
    columns = width_scores(by_width, DIM, ids["domain"].to_numpy())
    assert list(columns) == ["dim_16", "dim_32", "dim_64", "dim_128", "dim_all"]
    assert np.isnan([columns["dim_64"], columns["dim_128"]]).all()  # more than the images have numbers
    if 16 in expected:
        assert columns["dim_16"] == pytest.approx(by_hand(given, 16), abs=1e-6)
        assert columns["dim_all"] == pytest.approx(mean_by_domain(val.values, ids), abs=1e-6)
    else:
        assert np.isnan(columns["dim_16"])
        assert columns["dim_all"] == pytest.approx(0.5) if DIM in expected else np.isnan(columns["dim_all"])
