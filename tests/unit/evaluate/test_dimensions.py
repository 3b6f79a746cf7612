"""What fewer and more numbers score: scikit-learn's PCA and precisions by loops, on a few images."""

from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from combined_rows import Rows
from sklearn import decomposition

from guie.embed.codes import fit_codes
from guie.embed.fitted import Embedded
from guie.embed.pca import moments_of, pca_of
from guie.evaluate import dimensions
from guie.evaluate.dimensions import dimension_table, precisions_by_width, width_columns, widths_of
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
    combined: Any = {"val": val, "train": train}
    moments = moments_of([train])
    by_split = {split: rows.values for split, rows in combined.items()}
    if setting.pca_dim:
        pca = pca_of(moments, setting.pca_dim, setting.whiten)
        by_split = {split: pca.transform(values) for split, values in by_split.items()}
    widths = widths_of(setting.whiten, combined["val"], moments, by_split["val"].shape[1])
    by_width = precisions_by_width(widths, combined["val"], by_split["val"], ids["class_id"].to_numpy())
    return dimension_table(widths, by_width, Embedded(by_split, combined), ids)


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


def test_codes_of_every_width_stand_under_it(given: tuple[Rows, Rows, pd.DataFrame]) -> None:
    """Each code of a width keeps the numbers of that width: its precision is that of the same numbers in steps of the
    largest training number / 127, or of their signs."""
    table = table_of(given, Setting("final", MEMBERS, EXPORTED))
    assert list(zip(table["dim"], table["n_bytes"], strict=True)) == [
        *((16, n) for n in (64, 16, 2, 18)),
        *((EXPORTED, n) for n in (96, 24, 3, 27)),
        *((32, n) for n in (128, 32, 4, 36)),
        *((DIM, n) for n in (160, 40, 5, 45)),
    ]
    own = ["float32", "int8", "binary", "binary, 100 re-ranked by int8"]
    full = "all, without PCA"
    assert table["code"].tolist() == [*own * 3, full, *(f"{full}, {code}" for code in own[1:])]
    train, val, ids = given
    pca = decomposition.PCA(32).fit(train.values.astype(np.float64))
    train_32, val_32 = (pca.transform(rows.values.astype(np.float64)) for rows in (train, val))
    at = {dim: (train_32[:, :dim], val_32[:, :dim]) for dim in (16, EXPORTED, 32)} | {DIM: (train.values, val.values)}
    scores = table.set_index(["dim", table["code"].str.removeprefix(f"{full}, ")])
    for dim, (train_at, val_at) in at.items():
        unit, of_val = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (train_at, val_at))
        steps = np.clip(np.rint(of_val / (np.abs(unit).max() / 127)), -127, 127)
        # equal similarities of a few may be ordered otherwise: the bound is a share of the queries
        assert scores.loc[(dim, "int8"), "mp5"] == pytest.approx(mean_by_domain(steps, ids), abs=0.004), dim
        signs = np.where(val_at > 0, 1.0, -1.0)
        assert scores.loc[(dim, "binary"), "mp5"] == pytest.approx(mean_by_domain(signs, ids), abs=0.03), dim
    exported = scores.loc[(EXPORTED, "float32"), "mp5"]
    np.testing.assert_allclose(table["loss"], exported - table["mp5"], atol=2e-6)
    assert table["is_exported"].tolist() == [i == 4 for i in range(16)]


def test_embedding_without_pca_is_itself_and_prefixes_of_its_own_pca(given: tuple[Rows, Rows, pd.DataFrame]) -> None:
    table = table_of(given, Setting("head", MEMBERS))
    floats = table[table["code"] == "float32"].set_index("dim")
    assert (
        len(table) == 12
        and floats.index.tolist() == [16, 32, DIM]
        and floats["is_exported"].tolist() == [False, False, True]
    )
    assert floats.loc[16, "mp5"] == pytest.approx(by_hand(given, 16), abs=1e-6)
    assert floats.loc[DIM, "mp5"] == pytest.approx(mean_by_domain(given[1].values, given[2]), abs=1e-6)


def test_widths_that_need_more_images_or_memory_are_left_out(
    given: tuple[Rows, Rows, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val, ids = given
    few = (Rows(train.values[:20]), val, ids)
    table = table_of(few, Setting("final", MEMBERS, 12))
    assert table["dim"].tolist() == [12] * 2 + [16] * 4 + [DIM] * 4  # 12 bits are no bytes
    assert table["code"].iloc[:3].tolist() == ["float32", "int8", "float32"]
    monkeypatch.setattr(dimensions, "MOST_BYTES", 4 * DIM * len(val) - 1)
    assert table_of(few, Setting("final", MEMBERS, 12))["dim"].tolist() == [12] * 2 + [16] * 4
    monkeypatch.setattr(dimensions, "MOST_BYTES", 4 * DIM * len(val))
    monkeypatch.setattr(dimensions, "MOST_CODED", 4 * DIM * len(val) - 1)
    assert table_of(few, Setting("final", MEMBERS, 12))["dim"].tolist() == [12] * 2 + [16] * 4 + [DIM]
    monkeypatch.setattr(dimensions, "MOST_CODED", 0)
    assert table_of(few, Setting("final", MEMBERS, 12))["dim"].tolist() == [12] * 2 + [
        16,
        DIM,
    ]  # the exported has codes


def test_codes_of_a_width_are_fitted_on_few_training_images_and_those_of_the_exported_on_its_own(
    given: tuple[Rows, Rows, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[np.ndarray] = []
    monkeypatch.setattr(dimensions, "fit_codes", lambda rows: fitted.append(rows) or fit_codes(rows))
    monkeypatch.setattr(dimensions, "N_FITTED", 40)
    table_of(given, Setting("final", MEMBERS, EXPORTED))
    train = given[0].values
    own = pca_of(moments_of([given[0]]), EXPORTED, 0.0).transform(train)
    assert [rows.shape for rows in fitted] == [(30, 16), (90, EXPORTED), (30, 32), (30, DIM)]  # every third of 90
    np.testing.assert_allclose(fitted[1], own)
    np.testing.assert_allclose(np.abs(fitted[0]), np.abs(own[::3, :16]), atol=1e-5)
    np.testing.assert_allclose(fitted[3], train[::3])


def columns_of(given: tuple[Rows, Rows, pd.DataFrame], setting: Setting, dim: int) -> dict[str, float]:
    train, val, ids = given
    moments, combined, labels = moments_of([train]), cast(Any, val), ids["class_id"].to_numpy()
    exported = pca_of(moments, dim, setting.whiten).transform(val.values) if setting.pca_dim else val.values
    widths = widths_of(setting.whiten, combined, moments, exported.shape[1])
    by_width = precisions_by_width(widths, combined, exported, labels)
    return width_columns(setting, dim, 0.5, by_width, ids["domain"].to_numpy())


def test_columns_of_a_pca(given: tuple[Rows, Rows, pd.DataFrame]) -> None:
    """Its own 24 numbers are none of the columns; 64 and 128 are more than the images have."""
    columns = columns_of(given, Setting("final", MEMBERS, EXPORTED), EXPORTED)
    assert list(columns) == ["dim_16", "dim_32", "dim_64", "dim_128", "dim_all"]
    for dim in (16, 32):
        assert columns[f"dim_{dim}"] == pytest.approx(by_hand(given, dim), abs=1e-6)
    assert columns["dim_all"] == pytest.approx(mean_by_domain(given[1].values, given[2]), abs=1e-6)
    assert np.isnan([columns["dim_64"], columns["dim_128"]]).all()


def test_all_numbers_are_not_those_of_a_pca_to_as_many(given: tuple[Rows, Rows, pd.DataFrame]) -> None:
    """The combined outputs have 32 numbers: `dim_32` belongs to PCAs to 32, and `dim_all` to what they start from."""
    train, val, ids = (Rows(given[0].values[:, :32]), Rows(given[1].values[:, :32]), given[2])
    columns = columns_of((train, val, ids), Setting("final", MEMBERS, EXPORTED), EXPORTED)
    assert np.isnan(columns["dim_32"])
    assert columns["dim_all"] == pytest.approx(mean_by_domain(val.values, ids), abs=1e-6)


@pytest.mark.parametrize(
    ("setting", "dim", "own"),
    [
        (Setting("expanded", MEMBERS, 32, post=PostProcess(n_expanded=2)), 32, {"dim_32"}),
        (Setting("head", MEMBERS), 32, {"dim_32", "dim_all"}),
        (Setting("raw", MEMBERS), DIM, {"dim_all"}),
    ],
)
def test_row_without_a_pca_or_with_post_processing_has_its_own_width_alone(
    given: tuple[Rows, Rows, pd.DataFrame], setting: Setting, dim: int, own: set[str]
) -> None:
    columns = columns_of(given, setting, dim)
    assert {name for name, value in columns.items() if value == 0.5} == own
    assert sum(np.isnan(value) for value in columns.values()) == 5 - len(own)
