"""Backbones side by side: each as its library runs it, in training, in the cache, in the export."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from small_run import PX, make_small_run, small_recipe
from torch import Tensor

from guie.data.packed import PackedImages
from guie.embed.accelerator import make_accelerator
from guie.embed.ensemble import load_backbone, rows_of, stage_weights
from guie.embed.features import Encoder, FeatureStore
from guie.embed.joined import Joined
from guie.embed.views import normalise, to_square
from guie.export.submission import load_script
from guie.kaggle.weights import _paths
from guie.model.backbone import build_side_by_side, parts_of
from guie.model.check import check_networks
from guie.model.patches import set_resolution
from guie.recipe import HEAD, Embed, Member, Model, Recipe, Setting, Stages, Start, load_recipe
from guie.run import Run
from guie.settings.reading import recipe_of

OTHER = Model("timm", "test_efficientnet")  # ImageNet's mean and std
OWN_PIXELS = ((0.48, 0.45, 0.4), (0.26, 0.25, 0.27))  # of small_recipe
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def by_hand(model: Model, images: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """uint8 [n, 3, px, px] -> each library's own feature of its own pixels, divided by its length, side by side."""
    parts = []
    for i, (each, pixels) in enumerate(zip(model.each, (OWN_PIXELS, IMAGENET), strict=True)):
        start = f"network.backbones.{i}.network."
        network = timm.create_model(each.name, num_classes=0).eval()
        network.load_state_dict({n.removeprefix(start): t for n, t in weights.items() if n.startswith(start)})
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in pixels)
        with torch.no_grad():
            feature = network((images / 255 - mean) / std)
        parts.append(feature / feature.norm(dim=1, keepdim=True))
    return torch.cat(parts, dim=1)


def side_by_side_recipe() -> Recipe:
    """`small_recipe` with a head over its own network and another one, and one over the first alone."""
    recipe = small_recipe()
    alone = replace(recipe.stage("s1_head"), start=Start(fresh=HEAD, model=recipe.model))
    both = replace(alone, name="s2_both", start=Start(of="pretrained", fresh=HEAD))
    shelf = Setting("off the shelf", (Member("pretrained", PX, output="feature"),))
    setting = Setting("both", (Member("s2_both", PX, ("plain", "flip")),))
    embed = Embed((shelf, Setting("alone", (Member("s1_head", PX),)), setting))
    model = replace(recipe.model, beside=(OTHER,))
    return replace(recipe, model=model, stages=Stages(head=(alone, both)), embed=embed).validate()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Doors 02 to 08 without training; door 08 has compared its file with door 07."""
    return make_small_run(tmp_path_factory.mktemp("both") / "run", recipe=side_by_side_recipe())


def squares(run: Run, split: str) -> Tensor:
    packed = PackedImages(run.folder(3))
    images = [torch.from_numpy(packed.read(int(row))).permute(2, 0, 1)[None] for row in rows_of(packed, split)]
    return torch.cat([to_square(image, PX) for image in images])


def test_network_and_cache_give_each_librarys_own_features(run: Run):
    model = run.recipe.model
    backbone = load_backbone(run, "pretrained", PX)
    images = squares(run, "val")
    expected = by_hand(model, images, backbone.state_dict())
    assert expected.shape[1] == backbone.feature_dim and expected.std(0).mean() > 0.01
    with torch.no_grad():
        torch.testing.assert_close(backbone(normalise(images, *OWN_PIXELS)), expected, rtol=1e-3, atol=1e-5)
    packed = PackedImages(run.folder(3))
    store = FeatureStore(run, packed, make_accelerator("cpu"))
    cached = store.get(Encoder.of(backbone, model, PX), "plain", rows_of(packed, "val"))
    assert isinstance(cached, Joined) and cached.shape == tuple(expected.shape) and len(cached) == len(expected)
    np.testing.assert_allclose(cached[:], expected.numpy(), rtol=1e-3, atol=1e-5)
    some = np.array([3, 0, 2])
    np.testing.assert_array_equal(cached[some], cached[:][some])


def test_alone_and_side_by_side_share_their_cached_features(run: Run, monkeypatch: pytest.MonkeyPatch):
    """The ladder has the first network alone and both: each network's plain view of an image is computed once."""
    widths = [np.load(path, mmap_mode="r").shape[1] for path in run.cache.glob("*.npy")]
    each = [part.feature_dim for part in parts_of(load_backbone(run, "pretrained", PX))]
    assert sorted(widths) == sorted(4 * each)  # plain and mirrored, of two splits
    monkeypatch.setattr("guie.embed.extract._extract_slice", None)  # nothing is left to extract
    packed = PackedImages(run.folder(3))
    store = FeatureStore(run, packed, make_accelerator("cpu"))
    rows = rows_of(packed, "val")
    both = load_backbone(run, "pretrained", PX)
    store.get(Encoder.of(both, run.recipe.model, PX), "plain", rows)
    store.get(Encoder.of(parts_of(both)[0], run.recipe.model.each[0], PX), "plain", rows)


def test_forgotten_features_are_deleted_of_each(run: Run):
    packed = PackedImages(run.folder(3))
    store = FeatureStore(run, packed, make_accelerator("cpu"))
    rows = rows_of(packed, "val")[:3]
    encoder = Encoder.of(load_backbone(run, "pretrained", PX), run.recipe.model, PX)
    before = {path.name for path in run.cache.iterdir()}
    store.get(encoder, "plain", rows)
    assert len(list(run.cache.glob("*.npy"))) == len([name for name in before if name.endswith(".npy")]) + 2
    after = {path.name for path in run.cache.iterdir()}
    known = store.cached(encoder, "plain", rows)
    assert {f"{key}.npy" for key in known} == {name for name in after - before if name.endswith(".npy")}
    store.forget(encoder, "plain", rows, but=known)
    assert {path.name for path in run.cache.iterdir()} == after
    store.forget(encoder, "plain", rows)
    assert {path.name for path in run.cache.iterdir()} == before


def test_exported_file_gives_the_head_over_both(run: Run):
    card = json.loads((run.folder(8) / "card.json").read_text())
    assert card["parity"]["min_cosine"] > 1 - 1e-5
    assert [model["name"] for model in card["models"]] == ["test_resnet", "test_efficientnet"]
    assert [tuple(model["mean"]) for model in card["models"]] == [OWN_PIXELS[0], IMAGENET[0]]
    neck, images = stage_weights(run, "s2_both", "neck"), squares(run, "val")
    weights = stage_weights(run, "s2_both", "backbone")
    with torch.no_grad():
        views = [by_hand(run.recipe.model, view, weights) for view in (images, images.flip(3))]
        embedding = sum(view @ neck["linear.weight"].T + neck["linear.bias"] for view in views)
        expected = torch.nn.functional.normalize(embedding, dim=1).numpy()
    np.testing.assert_allclose(np.load(run.folder(7) / "val_embeddings.npy"), expected, atol=1e-4)
    packed, module = PackedImages(run.folder(3)), load_script(run.folder(8) / "saved_model.pt")
    with torch.no_grad():
        for row, embedding in zip(rows_of(packed, "val")[:4], expected, strict=False):
            got = module(torch.from_numpy(packed.read(int(row))).permute(2, 0, 1)[None])[0].numpy()
            np.testing.assert_allclose(got, embedding, atol=1e-4)


def test_size_and_stride_reach_every_backbone():
    model = Model("timm", "test_vit", beside=(Model("timm", "test_vit2"),))
    backbone = build_side_by_side(model, 64)
    set_resolution(backbone.network, 96, 12)
    seen: list[int] = []
    for part in parts_of(backbone):
        assert isinstance(part.network.blocks, torch.nn.Module)
        part.network.blocks.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[1]))
    with torch.no_grad():
        backbone(torch.randn(1, 3, 96, 96))
    assert [n % (7 * 7) for n in seen] == [1, 1]  # 7 x 7 patches and a class token


def test_checks_before_training_know_the_width_of_both():
    recipe = side_by_side_recipe()
    check_networks(recipe)
    width = build_side_by_side(recipe.model, PX).feature_dim
    shelf = replace(recipe.embed.settings[0], pca_dim=width)
    wide = replace(recipe, embed=Embed((shelf, *recipe.embed.settings[1:])))
    check_networks(wide)
    with pytest.raises(ValueError, match=rf"pca_dim is {width + 1}, more than the {width} numbers"):
        check_networks(replace(wide, embed=Embed((replace(shelf, pca_dim=width + 1), *recipe.embed.settings[1:]))))
    with pytest.raises(ValueError, match=r"model.name 'test_vit2': patch_stride is 17, must be 1 to 16"):
        strided = replace(recipe.embed.settings[-1].members[0], patch_stride=17)
        vits = replace(recipe, model=Model("timm", "test_vit2", beside=(Model("timm", "test_vit"),)))
        check_networks(replace(vits, embed=Embed((Setting("x", (strided,)),))))


@pytest.mark.parametrize("trains", ["backbone", "all"])
def test_stages_that_would_train_them_are_refused(trains: str):
    recipe = side_by_side_recipe()
    more = replace(recipe.stage("s2_both"), name="s3", trains=trains, start=Start(of="s2_both"))
    with pytest.raises(ValueError, match=rf"stages.s3.trains is '{trains}', but its backbone is several side by side"):
        replace(recipe, stages=replace(recipe.stages, backbone=(more,))).validate()


def test_a_backbone_stands_there_once_and_alone():
    recipe = side_by_side_recipe()
    nested = replace(recipe.model, beside=(replace(OTHER, beside=(Model("timm", "test_vit"),)),))
    for model in (nested, replace(recipe.model, beside=(recipe.model.each[0],))):
        with pytest.raises(ValueError, match=r"model.beside: the backbones are .*; each stands there once"):
            replace(recipe, model=model).validate()


def test_recipe_file_and_set_reach_the_second_backbone():
    recipe = load_recipe("guie_2026", ["model.beside.vit_large_patch14_reg4_dinov2.weights=dinov2.safetensors"])
    assert recipe.model.beside[0].weights == "dinov2.safetensors"
    assert recipe_of(json.loads(recipe.to_json())) == recipe
    assert [model.weights for model in recipe.models] == [
        "pretrained:v2_webli",
        "dinov2.safetensors",
        "pretrained:lvd142m",
    ]


def test_kaggle_names_every_place_of_a_weights_file():
    recipe = load_recipe("guie_2026")
    first, second = recipe.models
    assert list(_paths(recipe, first)) == ["model", "stages.s1_language.start.model", "stages.s3_both.start.model"]
    assert list(_paths(recipe, second)) == [
        "model.beside.vit_large_patch14_reg4_dinov2",
        "stages.s2_self_supervised.start.model",
        "stages.s3_both.start.model.beside.vit_large_patch14_reg4_dinov2",
    ]
