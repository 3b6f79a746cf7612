"""The embedding in numbers, against scikit-learn, loops and values by hand."""

import base64
import io
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_run import DOMAINS, make_fake_run
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier

from guie.embed.search import l2_normalised
from guie.report import embedding, geometry
from guie.report.album import open_images
from guie.report.embedding import TILE_PX, read_embedding
from guie.run import FOLDERS, Run

RNG = np.random.default_rng(0)


def clusters(n_classes: int, n_images: int, spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    class_ids = np.repeat(np.arange(n_classes), n_images)
    vectors = RNG.normal(size=(n_classes, 16))[class_ids] + spread * RNG.normal(size=(len(class_ids), 16))
    return l2_normalised(vectors), class_ids


def test_spectrum_equals_scikit_learns_pca():
    vectors = RNG.normal(size=(300, 20)) @ RNG.normal(size=(20, 20)) + 5.0
    found = geometry.spectrum(vectors.astype(np.float32))
    np.testing.assert_allclose(found.shares, PCA().fit(vectors).explained_variance_ratio_, rtol=1e-3, atol=1e-7)


def test_effective_dim_by_hand():
    cross = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], np.float32)
    assert geometry.spectrum(cross).effective_dim == pytest.approx(2)
    longer = cross * [math.sqrt(3), 1, 1]  # variances 3 : 1
    assert geometry.spectrum(longer).effective_dim == pytest.approx(
        math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    )
    assert geometry.spectrum(np.ones((5, 3), np.float32)) is None


def test_similarities_equal_a_loop_over_pairs():
    vectors, class_ids = clusters(12, 4, spread=1.0)
    expected = np.zeros((3, geometry.N_BINS), int)
    for i in range(len(vectors)):
        nearest = -2.0
        for j in range(len(vectors)):
            if i == j:
                continue
            cosine = float(
                np.dot(vectors[i].astype(float), vectors[j]) / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j])
            )
            expected[
                0 if class_ids[i] == class_ids[j] else 1,
                min(int((cosine + 1) / 2 * geometry.N_BINS), geometry.N_BINS - 1),
            ] += 1
            nearest = cosine if class_ids[i] != class_ids[j] and cosine > nearest else nearest
        expected[2, int((nearest + 1) / 2 * geometry.N_BINS)] += 1
    found = geometry.similarities(vectors, class_ids, seed=0)
    for own, other in zip((found.positives, found.negatives, found.nearest_negatives), expected, strict=True):
        assert own.sum() == other.sum()
        assert (
            np.abs(np.cumsum(own) - np.cumsum(other)).max() <= 1
        )  # a cosine on the edge of a bin may fall to either side


def test_similarities_of_equal_and_opposite_images_stay_in_the_last_bins():
    vectors = np.array([[1, 0], [1, 0], [-1, 0], [-1, 0]], np.float32)
    found = geometry.similarities(vectors, np.array([2**40, 2**40, 5, 5]), seed=0)
    assert (found.positives[-1], found.positives.sum()) == (4, 4)
    assert (found.negatives[0], found.negatives.sum(), found.nearest_negatives[0]) == (8, 8, 4)
    assert found.median_positive == pytest.approx(1, abs=1e-3)
    assert (found.share_above(found.positives, 0.0), found.share_above(found.negatives, 0.0)) == (1.0, 0.0)


@pytest.mark.parametrize("class_ids", [[0, 1, 2], [0, 0, 0]])
def test_similarities_without_a_kind_of_pair(class_ids: list[int]):
    assert geometry.similarities(np.eye(3, dtype=np.float32), np.array(class_ids), seed=0) is None


def test_similarities_of_a_sample_are_like_those_of_all(monkeypatch: pytest.MonkeyPatch):
    vectors, class_ids = clusters(40, 25)
    whole = geometry.similarities(vectors, class_ids, seed=0)
    monkeypatch.setattr(geometry, "N_QUERIES", 150)
    monkeypatch.setattr(geometry, "N_INDEX", 700)
    some = geometry.similarities(vectors, class_ids, seed=0)
    assert some.nearest_negatives.sum() == 150
    assert (some.positives + some.negatives).sum() == 150 * 699
    assert some.median_positive == pytest.approx(whole.median_positive, abs=0.03)


def test_sample_takes_whole_classes_of_every_domain():
    ids = pd.DataFrame({"class_id": np.repeat(np.arange(60), 5), "domain": np.repeat(["a", "b", "c"], [200, 90, 10])})
    rows = geometry.sample(ids, 90, seed=3)
    assert len(rows) == len(set(rows)) and (np.diff(rows) > 0).all()
    chosen = ids.iloc[rows]
    assert chosen["domain"].value_counts().to_dict() == {"a": 30, "b": 30, "c": 10}
    assert (chosen["class_id"].value_counts() == 5).all()
    np.testing.assert_array_equal(rows, geometry.sample(ids, 90, seed=3))
    assert not np.array_equal(rows, geometry.sample(ids, 90, seed=4))


def test_plane_keeps_classes_together_and_is_the_same_again():
    vectors, class_ids = clusters(8, 10)
    placed = geometry.plane(vectors, seed=1)
    assert placed.shape == (80, 2) and placed.min() == 0 and placed.max() == 1
    near = KNeighborsClassifier(6).fit(placed, class_ids)
    assert near.score(placed, class_ids) > 0.95
    np.testing.assert_array_equal(placed, geometry.plane(vectors, seed=1))


@pytest.mark.parametrize("n", [1, 2, 3, geometry.MIN_MAPPED - 1, geometry.MIN_MAPPED])
def test_plane_of_few_images(n: int):
    placed = geometry.plane(RNG.normal(size=(n, 8)), seed=0)
    assert placed.shape == (n, 2) and np.isfinite(placed).all() and placed.min() >= 0 and placed.max() <= 1


def test_plane_of_equal_images_and_of_one_dimension():
    assert (geometry.plane(np.ones((30, 4)), seed=0) == 0.5).all()
    assert np.isfinite(geometry.plane(np.array([[1.0], [-1.0], [1.0]]), seed=0)).all()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_fake_run(tmp_path_factory.mktemp("fake"))


def test_map_holds_every_image_with_its_class_and_tile(run: Run, monkeypatch: pytest.MonkeyPatch):
    seen = []
    real = embedding.tile_sheet
    monkeypatch.setattr(
        embedding, "tile_sheet", lambda images, rows: seen.append((images, list(rows))) or real(images, rows)
    )
    drawn = read_embedding(run).map
    ids = pd.read_parquet(run.out / FOLDERS[7] / "val_ids.parquet")
    assert [point.class_id for point in drawn.points] == ids["class_id"].tolist()
    assert [drawn.kinds[point.kind] for point in drawn.points] == ids["domain"].tolist()
    assert drawn.keys == list(enumerate(DOMAINS)) and not drawn.is_by_class
    _, rows = seen[0]
    assert rows == ids["pack_row"].tolist()
    assert drawn.n_columns**2 >= len(rows) > (drawn.n_columns - 1) ** 2


def test_map_of_one_domain_is_coloured_by_class_and_the_rest_is_grey(tmp_path: Path):
    one = make_fake_run(tmp_path, n_images=3, domains=("shoes",), n_classes=24)
    path = one.out / FOLDERS[7] / "val_ids.parquet"
    ids = pd.read_parquet(path)
    names = dict(enumerate(pd.read_parquet(one.out / FOLDERS[3] / "index.parquet")["source_label"]))
    labels = ids["pack_row"].map(names)
    drawn = read_embedding(one).map
    # Eleven classes of three images and one of two: the first eight names, by the alphabet, have a colour.
    coloured = sorted(labels.value_counts().loc[lambda n: n == 3].index)[:8]
    assert labels.nunique() == 12 and drawn.is_by_class
    assert list(drawn.kinds) == coloured and drawn.keys[8:] == [(-1, "other classes")]
    assert len(drawn.points) == len(ids)
    for point in drawn.points:
        assert (drawn.kinds[point.kind] if point.kind >= 0 else "") == (point.label if point.label in coloured else "")
    is_grey = [point.kind < 0 for point in drawn.points]
    assert is_grey == sorted(is_grey, reverse=True)  # grey ones are drawn first, below the others
    assert sorted(point.label for point in drawn.points) == sorted(labels)
    classes = labels.groupby(ids["class_id"]).first().to_dict()
    assert all(classes[point.class_id] == point.label for point in drawn.points)


def test_tile_sheet_shows_each_image_in_its_place(run: Run):
    images = open_images(run)
    text, n_columns = embedding.tile_sheet(images, [5, 40, 80])
    assert n_columns == 2
    with Image.open(io.BytesIO(base64.b64decode(text))) as sheet:
        assert sheet.size == (2 * TILE_PX, 2 * TILE_PX)
        for i, row in enumerate((5, 40, 80)):
            whole = Image.fromarray(images.read(row))  # 200 x 150
            left, top = i % 2 * TILE_PX, i // 2 * TILE_PX + TILE_PX // 8
            tile = np.asarray(sheet.crop((left, top, left + TILE_PX, top + TILE_PX * 3 // 4))).astype(float)
            assert np.abs(tile - np.asarray(whole.resize((TILE_PX, TILE_PX * 3 // 4)))).mean() < 8


def test_embedding_that_is_not_finite_is_an_error_and_one_that_does_not_fit_is_left_out(
    run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    shutil.copytree(run.out, tmp_path / "run")
    own = Run(run.recipe, run.data_root, tmp_path / "run")
    path = own.out / FOLDERS[7] / "val_embeddings.npy"
    vectors = np.load(path)
    np.save(path, vectors[:-1])
    assert read_embedding(own) is None
    assert "07_ensemble_and_pca" in caplog.text
    vectors[3, 3] = np.nan
    np.save(path, vectors)
    with pytest.raises(ValueError, match=r"val_embeddings\.npy holds values that are no numbers"):
        read_embedding(own)
    np.save(path, np.ones_like(vectors))
    assert read_embedding(own) is None
