"""Door 04 says before any work which network, feature or size cannot be, with sizes that can."""

import time
from dataclasses import replace

import pytest
import timm
import torch

from guie.model.check import check_networks
from guie.model.patches import set_resolution, sides_taken
from guie.recipe import HEAD, Member, Model, Optim, Recipe, Setting, Stage, Start, load_recipe

TINY = load_recipe("tiny")


def with_model(name: str, **options: str) -> Recipe:
    return replace(TINY, model=replace(TINY.model, name=name, **options))


def wide_pca_neck() -> Recipe:
    """A last head-only stage whose neck starts as a PCA that the features are too short for."""
    first = TINY.stages.head[0]
    wide = replace(
        first, name="last_wide", neck=replace(first.neck, dim=5000), start=Start(fresh=HEAD, has_pca_neck=True)
    )
    return replace(TINY, stages=replace(TINY.stages, highres=(*TINY.stages.highres, wide))).validate()


@pytest.mark.parametrize(
    ("recipe", "complaint"),
    [
        (
            with_model("convit_tiny"),
            r"stages.s1_head.image_px: .*'convit_tiny': a ConVit cannot take images of 64 px: "
            r"near this size it takes 224 px",
        ),
        (
            with_model("inception_v3"),
            r"an? InceptionV3 cannot take images of 64 px: near this size it takes 84, 96, 112 px",
        ),
        (with_model("nothing_of_that_name"), "is not a model of timm"),
        (with_model("test_vit", weights="pretrained:nothing"), "timm has these tags for test_vit: r160_in1k"),
        (with_model("test_convnext", feature="cls"), "stages.s1_head.image_px: .*has no class token"),
        (
            load_recipe("tiny", ["stages.s5_highres_backbone.patch_stride=8"]),
            "stages.s5_highres_backbone.image_px: .*cannot cut overlapping patches",
        ),
        (
            load_recipe("tiny", ["stages.s2_backbone.cost.patch_drop=.5"]),
            r"stages.s2_backbone.cost.patch_drop: .*: a \w+ cannot leave out patches .*; set patch_drop to 0",
        ),
        (
            wide_pca_neck(),
            r"stages.last_wide.neck.dim is 5000, more than the \d+ numbers of a feature, of which start.has_pca_neck",
        ),
    ],
)
def test_what_cannot_be_is_told_with_its_field(recipe: Recipe, complaint: str):
    with pytest.raises(ValueError, match=complaint) as caught:
        check_networks(recipe)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("feature", ["", "cls", "mean", "max", "gem"])
def test_every_feature_can_be_tried_on_shapes_alone(feature: str):
    check_networks(with_model("test_vit", feature=feature))
    check_networks(with_model("test_convnext", feature=feature if feature != "cls" else ""))


def test_size_of_a_member_is_tried_too():
    rows = (
        *TINY.embed.settings,
        Setting("wrong", (Member("s1_head", 64), Member("pretrained", 40, output="feature")), pca_dim=64),
    )
    recipe = replace(with_model("test_vit"), embed=replace(TINY.embed, settings=rows))
    check_networks(recipe)  # a transformer takes any
    with pytest.raises(
        ValueError,
        match=(
            r"embed.settings.wrong: the member 'pretrained' at 12 px: .*image_px is 12, must be at least 16, the "
            r"patch's side"
        ),
    ):
        check_networks(
            replace(
                recipe,
                embed=replace(
                    recipe.embed, settings=(replace(rows[-1], members=(Member("pretrained", 12, output="feature"),)),)
                ),
            )
        )


@pytest.mark.parametrize(
    "name", ["first_place", "second_place", "fifth_place", "unifex_2024", "demo", "minibench", "tiny"]
)
def test_recipes_pass_without_weights_and_in_seconds(name: str):
    started = time.process_time()
    check_networks(load_recipe(name))
    assert time.process_time() - started < 20


@pytest.mark.parametrize("name", ["convit_tiny", "test_maxvit", "test_coatnet"])
def test_sides_that_are_named_are_taken(name: str):
    """Each in a new network, with numbers."""
    sides = sides_taken(timm.create_model(name, num_classes=0), 100)
    assert sides
    for side in sides[:2]:
        network = timm.create_model(name, num_classes=0).eval()
        set_resolution(network, side)
        with torch.no_grad():
            assert network(torch.zeros(1, 3, side, side)).ndim == 2


def test_networks_that_know_no_size_are_not_refused_for_their_patches():
    """XCiT's patches have a size noted, but it takes any."""
    network = timm.create_model("xcit_nano_12_p16_224", num_classes=0).eval()
    set_resolution(network, 96)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 96, 96)).shape == (1, 128)


def test_network_that_can_change_only_when_it_must_keeps_its_windows():
    """MaxViT at a multiple of its windows stays as it was trained; at another side its windows change."""
    network = timm.create_model("test_maxvit", num_classes=0).eval()
    before = {name: tensor.shape for name, tensor in network.state_dict().items()}
    set_resolution(network, 320)
    assert before == {name: tensor.shape for name, tensor in network.state_dict().items()}
    set_resolution(network, 64)
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 128)


@pytest.mark.parametrize(("batch_size", "n_parts", "is_refused"), [(1, 1, True), (2, 1, False), (8, 8, False)])
def test_batch_norm_of_one_image_is_told_by_the_recipe(batch_size: int, n_parts: int, is_refused: bool):
    """The neck sees the whole batch, whatever the parts of the backbone's pass."""
    changes = [f"stages.{name}.neck.has_norm=true" for name in ("s1_head", "s2_backbone")]
    changes += [f"stages.s1_head.optim.batch_size={batch_size}", f"stages.s1_head.cost.n_parts={n_parts}"]
    norm, batch = torch.nn.BatchNorm1d(3).train(), torch.randn(batch_size, 3)
    if not is_refused:
        assert load_recipe("tiny", changes).stage("s1_head").optim.batch_size == batch_size
        norm(batch)
        return
    with pytest.raises(ValueError, match=r"s1_head.neck.has_norm is true, but batch_size 1 .* one image at a time"):
        load_recipe("tiny", changes)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):  # what torch says of it later
        norm(batch)


def test_model_settings_of_other_stages_are_checked():
    other = Stage(
        "s1_head",
        trains="head",
        image_px=64,
        start=Start(fresh=HEAD, model=Model("timm", "convit_tiny")),
        optim=Optim(n_epochs=1, batch_size=8, lr=0.01),
    )
    with pytest.raises(ValueError, match=r"stages.s1_head.image_px: model.name 'convit_tiny'"):
        check_networks(replace(TINY, stages=replace(TINY.stages, head=(other,))))


@pytest.mark.parametrize(
    ("members", "combine", "pca_dim", "width"),
    [
        ((Member("pretrained", 64, output="feature"),), "concatenate", 65, 64),  # test_convnext has 64 features
        ((Member("pretrained", 64, output="feature"), Member("s1_head", 64)), "concatenate", 129, 128),
        ((Member("pretrained", 64, output="feature"), Member("s2_backbone", 64, output="feature")), "mean", 65, 64),
    ],
)
def test_pca_to_more_numbers_than_features_is_told_before_the_training(
    members: tuple[Member, ...], combine: str, pca_dim: int, width: int
):
    row = Setting("wide", members, pca_dim=pca_dim, combine=combine)
    with pytest.raises(
        ValueError,
        match=f"^embed.settings.wide.pca_dim is {pca_dim}, more than the {width} numbers that its members give$",
    ):
        check_networks(replace(TINY, embed=replace(TINY.embed, settings=(row, *TINY.embed.settings))))
    check_networks(
        replace(TINY, embed=replace(TINY.embed, settings=(replace(row, pca_dim=width), *TINY.embed.settings)))
    )
