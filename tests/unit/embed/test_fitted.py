"""What a PCA is fitted on: covariances by NumPy from rows, texts by open_clip itself, and what is refused."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pytest
import torch
from changing import changed
from safetensors.torch import save_file
from small_run import make_small_run, small_recipe

from guie.data.packed import PackedImages
from guie.data.words import read_words
from guie.dependencies import input_digests, settings_digest
from guie.embed import fitted, pca
from guie.embed.fitted import check_rows, embed
from guie.evaluate.ladder import score_ladder
from guie.model import text
from guie.options import parser
from guie.recipe import Embed, FitImages, FitWords, Member, Model, Setting, Source
from guie.run import Run

D = 9
N = {"train": 40, "val": 30, "unlabelled": 25}
SOURCE = {"train": ["a", "b"], "val": ["a"], "unlabelled": ["mine", "theirs"]}
MEMBER = Member("pretrained", 32, output="feature", weight=2.0)


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {split: (rng.normal(size=(n, D)) * rng.uniform(0.2, 2, D) + rng.normal(size=D)).astype(np.float32)
            for split, n in N.items()}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    table = [(split, SOURCE[split][i % len(SOURCE[split])]) for split, n in sorted(N.items()) for i in range(n)]
    index = pd.DataFrame(table, columns=["split", "source"])
    monkeypatch.setattr(fitted, "images_of", lambda _: type("Pack", (), {"index": index}))
    recipe = small_recipe()
    sources = (*(Source(name, "class_folders", name, "x") for name in "ab"),
               *(Source(name, "unlabelled", name, "x") for name in ("mine", "theirs")))  # fmt: skip
    return Run(changed(recipe, data__sources=sources), tmp_path, tmp_path)


def fitted_on(run: Run, rows: dict[str, np.ndarray], *entries: Any, chunk: int = 8192) -> pca.Moments:
    setting = Setting("s", (MEMBER,), pca_dim=3, fit_on=entries)
    recipe = replace(run.recipe, embed=Embed((setting, *run.recipe.embed.settings))).validate()
    found = embed(replace(run, recipe=recipe), setting, lambda member, view, split: rows[split]).moments
    assert found is not None
    return found


def unit(rows: np.ndarray, first: int = 0, step: int = 1) -> np.ndarray:
    own = rows[first::step].astype(np.float64)
    return own / np.linalg.norm(own, axis=1, keepdims=True)


def scatter(rows: np.ndarray, about: np.ndarray) -> np.ndarray:
    """The mean of (x - about)(x - about)', by a loop."""
    return sum(np.outer(row - about, row - about) for row in rows) / len(rows)  # type: ignore[no-any-return]


def full(moments: pca.Moments) -> np.ndarray:
    lower = np.tril(moments.covariance)
    return lower + lower.T - np.diag(np.diag(lower))


def test_each_entry_has_its_share_however_many_images_it_has(run: Run, rows: dict[str, np.ndarray]) -> None:
    found = fitted_on(run, rows, FitImages(weight=3.0), FitImages(("mine",), weight=1.0))
    train, mine = unit(rows["train"]), unit(rows["unlabelled"], 0, 2)
    assert (len(train), len(mine)) == (40, 13) and found.n == 53
    mean = 0.75 * train.mean(0) + 0.25 * mean_of(mine)
    np.testing.assert_allclose(found.mean, mean, atol=1e-7)
    # of a mixture, with the unbiased covariance of each part
    expected = 0.75 * (scatter(train, train.mean(0)) * 40 / 39 + np.outer(train.mean(0) - mean, train.mean(0) - mean))
    expected += 0.25 * (scatter(mine, mine.mean(0)) * 13 / 12 + np.outer(mine.mean(0) - mean, mine.mean(0) - mean))
    np.testing.assert_allclose(full(found), expected, atol=1e-7)


def mean_of(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows.mean(axis=0))


def test_sources_of_one_entry_are_pooled_and_no_validation_image_counts(
    run: Run, rows: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled = np.concatenate([unit(rows["train"], 1, 2), unit(rows["unlabelled"], 1, 2)])
    monkeypatch.setattr(pca.moments_of, "__defaults__", (1, 7))
    found = fitted_on(run, rows, FitImages(("b", "theirs")))
    assert found.n == len(pooled) == 32
    np.testing.assert_allclose(found.mean, pooled.mean(0), atol=1e-7)
    np.testing.assert_allclose(full(found), np.cov(pooled.T), atol=1e-7)


def test_entries_lose_the_sources_of_a_foreign_domain_and_empty_ones_fall_away(
    run: Run, rows: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Sources `b` and `theirs` are of the domain that is left out; what is left keeps its weights."""
    index = fitted.images_of(run).index
    named = {"train": "given", "unlabelled": "hidden", "val": "val"}
    is_gone = index["source"].isin(("b", "theirs"))
    index = index.assign(split=index["split"].mask(is_gone, index["split"].map(named)))
    monkeypatch.setattr(fitted, "images_of", lambda _: type("Pack", (), {"index": index}))
    left = {"train": rows["train"][::2], "unlabelled": rows["unlabelled"][::2], "val": rows["val"]}
    entries = (FitImages(("a", "b"), weight=3.0), FitImages(("theirs",), weight=9.0), FitImages(("mine",)))
    setting = Setting("s", (MEMBER,), pca_dim=3, fit_on=entries)
    recipe = replace(run.recipe, embed=Embed((setting, *run.recipe.embed.settings))).validate()
    logging.getLogger("guie").propagate = True
    with caplog.at_level(logging.INFO, "guie"):
        found = embed(replace(run, recipe=recipe), setting, lambda member, view, split: left[split])
    train, mine = unit(left["train"]), unit(left["unlabelled"])
    assert found.moments is not None
    np.testing.assert_allclose(found.moments.mean, 0.75 * train.mean(0) + 0.25 * mine.mean(0), atol=1e-7)
    assert found.moments.n == 33 and found.fit_on == (FitImages(("a",), weight=3.0), FitImages(("mine",)))
    assert "s: not fitted on b, theirs" in caplog.text
    with pytest.raises(ValueError, match="s is fitted on b, theirs alone; name another source in fit_on"):
        fitted_on(run, left, FitImages(("b", "theirs")))


def test_one_entry_of_all_training_images_is_what_is_done_without_any(run: Run, rows: dict[str, np.ndarray]) -> None:
    said, silent = fitted_on(run, rows, FitImages(weight=7.0)), fitted_on(run, rows)
    assert said.n == silent.n == 40
    assert np.array_equal(said.mean, silent.mean) and np.array_equal(said.covariance, silent.covariance)


def test_words_share_the_covariance_and_leave_the_mean(
    run: Run, rows: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = unit(np.random.default_rng(3).normal(size=(20, D)) + 5.0)  # far from the images, as texts are
    monkeypatch.setattr(fitted, "embedded_words", lambda *_: texts.astype(np.float32))
    run = replace(run, recipe=replace(run.recipe, model=Model("open_clip", "ViT-B-32", "pretrained:openai")))
    train, spread = unit(rows["train"]), np.cov(texts.T)
    found = fitted_on(run, rows, FitImages(weight=1.0), FitWords(weight=3.0))
    np.testing.assert_allclose(found.mean, train.mean(0), atol=1e-7)
    np.testing.assert_allclose(full(found), 0.25 * np.cov(train.T) + 0.75 * spread, atol=1e-7)
    alone = fitted_on(run, rows, FitWords(weight=0.3))
    np.testing.assert_allclose(alone.mean, train.mean(0), atol=1e-7)
    np.testing.assert_allclose(full(alone), spread, atol=1e-7)
    assert (found.n, alone.n) == (60, 20)


JOINT = Model("open_clip", "ViT-B-32", "pretrained:openai")


@pytest.mark.parametrize(
    ("model", "member", "entry", "told"),
    [
        (JOINT, MEMBER, FitImages(("c",)), r"s.fit_on.0.sources names 'c', which is no source with training images"),
        (JOINT, MEMBER, FitWords(template="a photo"), r"template is 'a photo', must hold {} once"),
        (JOINT, MEMBER, FitWords(template="{} {}"), "must hold {} once"),
        (JOINT, MEMBER, FitWords(template="{a} {}"), "must hold {} once"),
        (JOINT, MEMBER, FitWords(file=" "), "file is empty"),
        (JOINT, Member("s1_head", 32), FitWords(), "its output is 'embedding'.*take output='feature'"),
        (Model("timm", "test_resnet"), MEMBER, FitWords(), "timm's test_resnet has no text tower"),
        (replace(JOINT, feature="unprojected"), MEMBER, FitWords(), "its feature is 'unprojected'"),
        (replace(JOINT, weights=""), MEMBER, FitWords(), "its weights are random"),
        (
            replace(JOINT, beside=(Model("timm", "test_resnet"),)),
            MEMBER,
            FitWords(),
            "test_resnet beside it has no text",
        ),
        (JOINT, Member("s2", 32, output="feature"), FitWords(), "s2 trained its backbone away"),
    ],
)
def test_what_cannot_be_fitted_on_is_refused(run: Run, model: Model, member: Member, entry: Any, told: str) -> None:
    setting = Setting("s", (member,), pca_dim=3, fit_on=(entry,))
    recipe = changed(run.recipe, model=model, embed=Embed((setting, *run.recipe.embed.settings)))
    head = recipe.stages.head[0]
    moved = replace(head, name="s2", trains="backbone", start=type(head.start)())
    recipe = changed(recipe, stages__backbone=(moved,) if member.stage == "s2" else ())
    with pytest.raises(ValueError, match=told):
        recipe.validate()


def test_a_source_has_one_weight_and_a_row_without_pca_none(run: Run) -> None:
    for setting, told in (
        (Setting("s", (MEMBER,), pca_dim=3, fit_on=(FitImages(("a",)), FitImages(("a", "b")))), "'a' stands twice"),
        (Setting("s", (MEMBER,), fit_on=(FitImages(),)), "this row has none; set pca_dim"),
    ):
        with pytest.raises(ValueError, match=told):
            changed(run.recipe, embed=Embed((setting, *run.recipe.embed.settings))).validate()


# ---- on a real run: a small language-image model, and images without labels in its pack

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
WORDS = "# kinds of things\nchair\n\nclock\nred bus\nchair\n" + "\n".join(f"thing {i}" for i in range(70))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model's configuration and weights."""
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tiny-words.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT}))
    open_clip.add_model_config(folder)
    torch.manual_seed(2)
    save_file(open_clip.create_model("tiny-words").state_dict(), folder / "whole.safetensors")
    return folder


@pytest.fixture(scope="module")
def made(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of that model whose training images of three classes have become a source without labels."""
    root = tmp_path_factory.mktemp("runs")
    (root / "data").mkdir()
    (root / "data/words.txt").write_text(WORDS)
    model = Model("open_clip", "tiny-words", str(clip / "whole.safetensors"), mean=(0.5,) * 3, std=(0.5,) * 3)
    small = changed(small_recipe(), model=model)
    member = Member("pretrained", 32, ("plain", "flip"), output="feature")
    fit_on = (FitImages(weight=2.0), FitImages(("mine",)), FitWords(weight=0.5))
    settings = (Setting("pca", (member,), 20), Setting("wide", (member, replace(member, weight=0.5)), 20),
                small.embed.final)  # fmt: skip
    sources = (*small.data.sources, Source("mine", "unlabelled", "mine", "any"))
    recipe = changed(small, data__sources=sources, embed__settings=settings, embed__fit_on=fit_on)
    run = make_small_run(root / "small", recipe=small)
    path = run.folder(3) / "index.parquet"
    index = pd.read_parquet(path)
    is_mine = index["class_id"].isin((13, 17, 20))
    assert (index["split"][is_mine] == "train").all()
    index.loc[is_mine, ["split", "source", "class_id"]] = ["unlabelled", "mine", -1]
    index.sort_values(["split", "class_id", "image_id"], ignore_index=True).to_parquet(path, index=False)
    return replace(run, recipe=recipe.validate())


def by_hand(run: Run, clip: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of one member, by open_clip's own towers: images one by one, words in one batch."""
    whole = open_clip.create_model("tiny-words", pretrained=str(clip / "whole.safetensors")).eval()
    packed = PackedImages(run.folder(3))
    parts: dict[str, list[np.ndarray]] = {"train": [], "unlabelled": []}
    with torch.no_grad():
        for i, split in enumerate(packed.index["split"]):
            if split in parts:
                pixels = torch.from_numpy(packed.read(i)).permute(2, 0, 1)[None].float()
                square = torch.nn.functional.interpolate(
                    pixels, (32, 32), mode="bicubic", antialias=True, align_corners=False
                ).clamp(0, 255)
                views = [whole.encode_image((own / 255 - 0.5) / 0.5) for own in (square, square.flip(3))]
                parts[split].append(unit(torch.stack(views).mean(0).numpy())[0])
        words = [word for word in dict.fromkeys(WORDS.split("\n")) if word and word[0] != "#"]
        tokens = open_clip.get_tokenizer("tiny-words")([f"a photo of a {word}." for word in words])
        texts = unit(whole.encode_text(tokens).numpy())
    train, mine = np.stack(parts["train"]), np.stack(parts["unlabelled"])
    mean = (2 * train.mean(0) + mine.mean(0)) / 3
    covariance = texts_share(np.cov(texts.T))
    for rows, share in ((train, 2 / 3.5), (mine, 1 / 3.5)):
        covariance = covariance + share * (np.cov(rows.T) + np.outer(rows.mean(0) - mean, rows.mean(0) - mean))
    return mean, covariance


def texts_share(covariance: np.ndarray) -> np.ndarray:
    return covariance * 0.5 / 3.5


def test_door_07_fits_on_training_images_a_folder_and_words(
    made: Run, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("guie").propagate = True
    with caplog.at_level(logging.INFO, "guie"):
        score_ladder(made)
    told = [line for line in caplog.messages if "fitted on" in line]
    assert "initialized randomly" not in caplog.text
    assert told[0] == "pca: PCA fitted on 57% 72 training images, 29% 24 images of mine, 14% 73 words of words.txt"
    table = pd.read_csv(made.folder(7) / "scores.csv")
    assert table["projection"].tolist() == [*["pca20 fit:train*2,mine*1,words.txt*0.5"] * 2, "none"]
    assert set(pd.read_parquet(made.folder(7) / "train_ids.parquet")["class_id"]) == set(range(12, 24)) - {13, 17, 20}
    final = replace(made.recipe, embed=replace(made.recipe.embed, settings=made.recipe.embed.settings[:1]))
    score_ladder(replace(made, recipe=final))
    moments = pca.Moments.load(made.folder(7) / "moments.npz")
    mean, covariance = by_hand(made, clip)
    np.testing.assert_allclose(moments.mean, mean, atol=2e-6)
    np.testing.assert_allclose(full(moments), covariance, atol=2e-7)
    assert np.abs(covariance).max() > 5e-4


def test_texts_are_computed_once_and_a_damaged_part_again(
    made: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "PART", 4)
    counted: list[int] = []
    embedded = text._embedded
    monkeypatch.setattr(text, "_embedded", lambda tower, tokenize, own, device: counted.append(len(own)) or embedded(
        tower, tokenize, own, device))  # fmt: skip
    texts = [f"a photo of a {word}" for word in "abcdefghij"]
    first = text.text_embeddings(made.recipe.model, clip / "whole.safetensors", texts, tmp_path)
    assert counted == [4, 4, 2] and first.shape == (10, 24)
    damaged, cut = sorted(tmp_path.glob("text-*.npy"))[:2]
    damaged.write_bytes(b"no array")
    cut.write_bytes(cut.read_bytes()[:-8])
    again = text.text_embeddings(made.recipe.model, clip / "whole.safetensors", texts, tmp_path)
    assert len(counted) == 5 and np.array_equal(first, again)


def test_weights_without_a_text_tower_are_told(made: Run, clip: Path, tmp_path: Path) -> None:
    whole = open_clip.create_model("tiny-words").state_dict()
    save_file({name: own for name, own in whole.items() if name.startswith("visual.")}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"w.safetensors lacks .* of the text tower, such as positional_embedding"):
        text.text_embeddings(made.recipe.model, tmp_path / "w.safetensors", ["a", "b"], tmp_path)
    with pytest.raises(ValueError, match="text tower of open_clip's no-such-model cannot be built"):
        text.text_embeddings(Model("open_clip", "no-such-model"), None, ["a"], tmp_path)


def test_too_little_to_fit_on_is_told_before_anything_is_trained(made: Run, tmp_path: Path) -> None:
    packed = PackedImages(made.folder(3))
    check_rows(made, packed)

    def told(pca_dim: int, *entries: Any, root: Path = made.data_root, of: PackedImages = packed) -> str:
        row = replace(made.recipe.embed.settings[0], pca_dim=pca_dim, fit_on=entries)
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            check_rows(Run(replace(made.recipe, embed=Embed((row,))), root, made.out), of)
        return str(error.value)

    single = PackedImages(made.folder(3))
    single.index.loc[single.index["split"].tolist().index("unlabelled"), "source"] = "one"
    assert "embed.settings.pca is fitted on images of one, but the pack has 1; a covariance needs 2: add" in told(
        4, FitImages(), FitImages(("one",)), of=single
    )
    assert "needs more than 24 images and words to fit on; fit_on names 24" in told(24, FitImages(("mine",)))
    assert "needs more than 97 images and words to fit on; fit_on names 97" in told(
        97, FitWords(), FitImages(("mine",))
    )
    assert "is fitted on other, but the pack has no image" in told(4, FitImages(("other",)))
    assert f"the words {tmp_path / 'words.txt'} do not exist" in told(4, FitWords(), root=tmp_path)
    (tmp_path / "words.txt").write_text("# none\none\none\n")
    assert "has 1 words" in told(4, FitWords(), root=tmp_path)
    (tmp_path / "words.txt").write_bytes(b"caf\xe9\nbar\n")
    assert "is not text in UTF-8" in told(4, FitWords(), root=tmp_path)


def test_another_list_of_words_or_weight_makes_door_07_run_again(made: Run, tmp_path: Path) -> None:
    arguments = parser(None, 7).parse_args(["--recipe", "small"])
    run = Run(made.recipe, tmp_path, tmp_path / "out")
    shutil.copy(made.data_root / "words.txt", tmp_path / "words.txt")
    digests = []
    for content in (WORDS, f"{WORDS}\nlamp"):
        (tmp_path / "words.txt").write_text(content)
        digests.append(_words_of(run, arguments))
    assert digests[0] and digests[0] != digests[1] and "lamp" in read_words(run, "words.txt")
    plain = changed(made.recipe, embed__fit_on=())
    assert _words_of(replace(run, recipe=plain), arguments) is None
    heavier = changed(made.recipe, embed__fit_on=(FitImages(weight=2.5), *made.recipe.embed.fit_on[1:]))
    assert len({settings_digest(recipe, 7) for recipe in (plain, heavier, made.recipe)}) == 3
    assert settings_digest(plain, 4) == settings_digest(heavier, 4)


def _words_of(run: Run, arguments: Any) -> str | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("guie.dependencies._finished_digest", lambda *_: "")
        return input_digests(run, 7, arguments).get("words")
