"""Attached weights are found by the names and shapes in them; missing ones are refused before the first door."""

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import timm
import torch
from kaggle_folders import make_run
from safetensors.torch import save_file

from guie.embed.ensemble import load_backbone
from guie.kaggle import begin
from guie.kaggle import session as session_module
from guie.kaggle import weights as module
from guie.kaggle.weights import Weights, find_weights
from guie.model.found_weights import fitting_files
from guie.recipe import Model, Recipe, load_recipe
from guie.recipes.tiny import RECIPE as TINY
from guie.run import FOLDERS, Run

LARGE = load_recipe("kaggle_t4")
VIT = replace(TINY, model=Model("timm", "test_vit", "pretrained:r160_in1k"))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_online", lambda: False)


def shapes_of_open_clip(name: str, prefix: str = "visual.") -> dict[str, tuple[int, ...]]:
    """The names and shapes of open_clip's image tower, with those of a text tower beside them."""
    with torch.device("meta"):
        model = open_clip.CLIP(**open_clip.get_model_config(name))
    return {
        prefix + inner if inner != key else key: tuple(tensor.shape)
        for key, tensor in model.state_dict().items()
        for inner in [key.removeprefix("visual.")]
    }


def hollow(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A safetensors file of these tensors, all zero, that takes no room on the disk: its numbers are a hole in it."""
    header: dict[str, object] = {}
    end = 0
    for name, shape in shapes.items():
        size = 4
        for n in shape:
            size *= n
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)
    return path


def find(recipe: Recipe, folder: Path, given: list[str] | None = None) -> Weights:
    return find_weights(recipe, folder / "input", folder / "project", given)


def test_weights_are_told_by_what_is_in_them_and_not_by_their_names(tmp_path: Path) -> None:
    right = hollow(
        tmp_path / "input/models/me/clip/pyTorch/h14/1/anything.safetensors", shapes_of_open_clip("ViT-H-14")
    )
    hollow(tmp_path / "input/other/open_clip_model.safetensors", shapes_of_open_clip("ViT-L-14"))
    (tmp_path / "input/other/pytorch_model.bin").write_bytes(b"no weights at all")
    found = find(LARGE, tmp_path)
    assert found == Weights(("model.weights=ViT-H-14.safetensors",), {"ViT-H-14.safetensors": right})
    assert load_recipe("kaggle_t4", found.sets).model.weights_file == "ViT-H-14.safetensors"


def test_missing_weights_are_refused_with_what_was_looked_for_and_where(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"^kaggle_t4 needs weights of open_clip's ViT-H-14 \(pretrained:laion2b_s32b_b79k\), and there is no "
        rf"file of weights below {tmp_path}/input; attach open_clip_pytorch_model.bin, .*, or switch the "
        "internet on; or name another RECIPE",
    ):
        find(LARGE, tmp_path)
    hollow(tmp_path / "input/clip/open_clip_model.safetensors", shapes_of_open_clip("ViT-L-14"))
    with pytest.raises(FileNotFoundError, match=r"none of 1 files fits \(clip/open_clip_model.safetensors: .* tensors"):
        find(LARGE, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^WEIGHTS names /kaggle/input/no, which is not attached$"):
        find(LARGE, tmp_path, ["/kaggle/input/no"])


def test_weights_of_a_tag_are_fetched_where_there_is_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_online", lambda: True)
    assert find(LARGE, tmp_path) == Weights()
    hollow(tmp_path / "input/clip/open_clip_model.safetensors", shapes_of_open_clip("ViT-L-14"))
    with pytest.raises(FileNotFoundError, match=r"below .*/input/clip; attach [^;]*them; or name another"):
        find(LARGE, tmp_path, [str(tmp_path / "input/clip")])


def test_weights_of_a_tag_are_taken_from_an_attached_cache_of_that_tag_alone(tmp_path: Path) -> None:
    cache = tmp_path / "input/kit/hf/hub/models--laion--CLIP-ViT-L-14-laion2B-s32B-b82K/snapshots/1/x"
    cache.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="needs weights of open_clip's ViT-H-14"):
        find(LARGE, tmp_path)
    (tmp_path / "input/kit/hf/hub/models--laion--CLIP-ViT-H-14-laion2B-s32B-b79K/snapshots/1/x").mkdir(parents=True)
    assert find(LARGE, tmp_path) == Weights()


def test_several_fitting_files_are_refused_until_one_is_named(tmp_path: Path) -> None:
    weights = timm.create_model("test_vit").state_dict()
    for name in ("a", "b"):
        (tmp_path / f"input/{name}").mkdir(parents=True)
        torch.save(
            {"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / f"input/{name}/x.pth"
        )
    save_file(weights, tmp_path / "input/a/model.safetensors")  # the same numbers in another form
    with pytest.raises(ValueError, match=r"several files below .*/input fit: .*/a/model.safetensors, .*/b/x.pth; name"):
        find(VIT, tmp_path)
    found = find(VIT, tmp_path, [str(tmp_path / "input/b")])
    assert found == Weights(("model.weights=test_vit.pth",), {"test_vit.pth": tmp_path / "input/b/x.pth"})


def test_file_that_the_recipe_names_is_found_under_any_name_and_read_as_the_recipe_says(tmp_path: Path) -> None:
    recipe = replace(VIT, model=Model("timm", "test_vit", "mine.safetensors"))
    weights = timm.create_model("test_vit").state_dict()
    (tmp_path / "input/a").mkdir(parents=True)
    torch.save(weights, tmp_path / "input/a/x.pth")
    with pytest.raises(FileNotFoundError, match="there is no file of weights"):
        find(recipe, tmp_path)
    save_file(weights, tmp_path / "input/a/other.safetensors")
    assert find(recipe, tmp_path) == Weights((), {"mine.safetensors": tmp_path / "input/a/other.safetensors"})
    save_file(weights, tmp_path / "input/a/mine.safetensors")
    assert find(recipe, tmp_path) == Weights(), "it is linked by its name"
    assert find(TINY, tmp_path) == Weights(), "random weights need no file"


def test_folders_of_images_and_data_sets_are_not_searched(tmp_path: Path) -> None:
    weights = timm.create_model("test_vit").state_dict()
    for place in ("input/images", "input/set"):
        (tmp_path / place).mkdir(parents=True)
        save_file(weights, tmp_path / place / "x.safetensors")
    for i in range(1000):
        (tmp_path / f"input/images/{i}.jpg").touch()
    with pytest.raises(FileNotFoundError, match="there is no file of weights"):
        find_weights(VIT, tmp_path / "input", tmp_path, skipped=[tmp_path / "input/set"])


def test_one_large_set_does_not_take_the_turn_of_what_is_attached_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kaggle's landmarks lie in 8,192 folders at the level of a model's version, and before `models` in the alphabet.

    Products-10K alone is trained on, so that the landmarks are no data set of the session. 125 folders, and at most 40
    of a level, stand for them.
    """
    monkeypatch.setattr("guie.model.found_weights.MAX_FOLDERS", 40)
    for a, b, c in itertools.product("01234", repeat=3):
        (tmp_path / f"input/competitions/landmark-recognition-2021/train/{a}/{b}/{c}").mkdir(parents=True)
    file = tmp_path / "input/models/me/clip/pyTorch/h14/1/x.safetensors"
    file.parent.mkdir(parents=True)
    save_file(timm.create_model("test_vit").state_dict(), file)
    assert find(VIT, tmp_path).files == {"test_vit.safetensors": file}


SMALL = {
    "embed_dim": 10,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 24, "patch_size": 8, "head_width": 8, "mlp_ratio": 2.0},
    "text_cfg": {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def small(tmp_path: Path) -> Recipe:
    """A recipe whose backbone is a small CLIP, which open_clip knows while this process lives."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/ViT-small-of-tests.json").write_text(json.dumps(SMALL))
    open_clip.add_model_config(tmp_path / "models")
    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return replace(TINY, model=Model("open_clip", "ViT-small-of-tests", "clip.safetensors", mean=mean, std=std))


def _save_of_transformers(folder: Path, activation: str = "gelu", n_heads: int = 3) -> torch.nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    config = transformers.CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=n_heads, image_size=32,
        patch_size=8, projection_dim=10, hidden_act=activation,
    )  # fmt: skip
    model = transformers.CLIPVisionModelWithProjection(config).eval()
    model.save_pretrained(folder)
    return model


def test_hugging_face_folder_is_found_and_gives_the_features_of_transformers(tmp_path: Path, small: Recipe) -> None:
    theirs = _save_of_transformers(tmp_path / "input/clip")
    found = find(small, tmp_path)
    assert found.files == {"clip.safetensors": tmp_path / "input/clip/model.safetensors"}
    root = session_module.link_data({}, [], found.files)
    backbone = load_backbone(Run(small, root, tmp_path / "out"), "pretrained", 32)
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(backbone(pixels), theirs(pixel_values=pixels).image_embeds, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("activation", "n_heads", "reason"),
    [
        ("quick_gelu", 3, "says QuickGELU, but ViT-small-of-tests has GELU"),
        ("gelu", 4, "says 4 attention heads, but .* 3"),
    ],
)
def test_configuration_beside_the_weights_is_heeded(
    tmp_path: Path, small: Recipe, activation: str, n_heads: int, reason: str
) -> None:
    _save_of_transformers(tmp_path / "input/clip", activation, n_heads)
    with pytest.raises(FileNotFoundError, match=rf"none of 1 files fits \(clip/model.safetensors: .*{reason}"):
        find(small, tmp_path)


# --- begin ----------------------------------------------------------------------------------------------------


@pytest.fixture
def attached_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cards, and both data sets of the large recipe attached under the names that they have on Kaggle."""
    monkeypatch.setattr(session_module, "cards", lambda: (14.6, 14.6))
    for name in ("landmark-recognition-2021", "products-10k"):
        (tmp_path / f"input/competitions/{name}/train").mkdir(parents=True)
        (tmp_path / f"input/competitions/{name}/train.csv").touch()
    return tmp_path


def test_session_names_and_links_the_weights_and_a_later_one_finds_them_again(attached_sets: Path) -> None:
    file = hollow(attached_sets / "input/w/x.safetensors", shapes_of_open_clip("ViT-H-14"))
    session = begin(attached_sets / "input", attached_sets / "working")
    assert (session.recipe, session.sets) == ("kaggle_t4", ("model.weights=ViT-H-14.safetensors",))
    assert (session.data_root / "ViT-H-14.safetensors").resolve() == file
    assert (session.data_root / "gldv2/train.csv").is_file() and (session.data_root / "products10k/train").is_dir()

    make_run(attached_sets / "input/v1/artifacts/kaggle_t4", (1, 2, 3), recipe="kaggle_t4", sets=session.sets)
    later = begin(attached_sets / "input", attached_sets / "later")
    assert later.sets == session.sets and (later.data_root / "ViT-H-14.safetensors").resolve() == file


def trained(run: Path, *stages: str) -> list[Path]:
    """Weights as two finished stages leave them: with those of the whole backbone, also where it was frozen."""
    tower = {name: shape for name, shape in shapes_of_open_clip("ViT-H-14").items() if name.startswith("visual.")}
    own = {name.replace("visual.", "backbone.network."): shape for name, shape in tower.items()}
    files = [hollow(run / stage / "final.safetensors", own | {"neck.linear.weight": (64, 1024)}) for stage in stages]
    assert fitting_files(LARGE.model, files)[0] == files, "they are taken where nothing else is said"
    return files


STAGES = ("04_head/s1_head", "05_backbone/s2_last_blocks")


@pytest.mark.parametrize("stages", [STAGES[:1], STAGES])
def test_weights_that_an_attached_run_has_trained_are_not_taken_for_pretrained_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stages: tuple[str, ...]
) -> None:
    """Of a run that began with a file, and of one that began with a tag: another model.weights would be another
    setting, which the doors refuse once something is finished."""
    run = make_run(tmp_path / "input/v1/artifacts/kaggle_t4", (1, 2, 3), stages, "kaggle_t4", ())
    finals = trained(run, *stages)
    with pytest.raises(FileNotFoundError, match="there is no file of weights below"):
        find(LARGE, tmp_path)
    monkeypatch.setattr(module, "is_online", lambda: True)
    assert find(LARGE, tmp_path) == Weights()
    file = hollow(tmp_path / "input/w/x.safetensors", shapes_of_open_clip("ViT-H-14"))
    assert find(LARGE, tmp_path).files == {"ViT-H-14.safetensors": file}
    assert find(LARGE, tmp_path, [str(finals[-1])]).files == {"ViT-H-14.safetensors": finals[-1]}, "named in WEIGHTS"
    assert find(LARGE, tmp_path, [str(finals[-1].parent)]).files == {"ViT-H-14.safetensors": finals[-1]}


def test_run_that_began_with_a_tag_goes_on_with_it_although_a_file_is_attached_now(
    attached_sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(attached_sets / "input/v1/artifacts/kaggle_t4", (1, 2, 3), STAGES[:1], "kaggle_t4", ())
    hollow(attached_sets / "input/w/x.safetensors", shapes_of_open_clip("ViT-H-14"))
    for recipe in ("", "kaggle_t4"):
        with pytest.raises(FileNotFoundError, match=r"began with pretrained:laion2b_s32b_b79k of .*; switch"):
            begin(attached_sets / "input", attached_sets / "working", recipe)
        monkeypatch.setattr(module, "is_online", lambda: True)
        assert begin(attached_sets / "input", attached_sets / f"working{recipe}", recipe).sets == ()
        monkeypatch.setattr(module, "is_online", lambda: False)
    with pytest.raises(ValueError, match=r"model.weights pretrained:.*, not ViT-H-14.safetensors.*; set NAME"):
        begin(attached_sets / "input", attached_sets / "working", weights=[str(attached_sets / "input/w")])


def test_data_set_is_not_searched_although_it_is_read_through_links(attached_sets: Path) -> None:
    file = hollow(attached_sets / "input/w/x.safetensors", shapes_of_open_clip("ViT-H-14"))
    for name in ("landmark-recognition-2021", "products-10k"):
        hollow(attached_sets / f"input/competitions/{name}/train/0/y.safetensors", shapes_of_open_clip("ViT-H-14"))
    session = begin(attached_sets / "input", attached_sets / "working")
    assert (session.data_root / "ViT-H-14.safetensors").resolve() == file


def test_missing_weights_stop_before_the_first_door_and_never_become_the_demo(attached_sets: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"kaggle_t4 needs weights .* or name another RECIPE: demo needs none$"
    ) as caught:
        begin(attached_sets / "input", attached_sets / "working")
    assert "\n" not in str(caught.value) and not (attached_sets / "working/artifacts").exists()
    assert begin(attached_sets / "input", attached_sets / "working", "demo").recipe == "demo"


def test_sets_leave_out_the_other_data_sets_with_their_limits(attached_sets: Path) -> None:
    hollow(attached_sets / "input/w/x.safetensors", shapes_of_open_clip("ViT-H-14"))
    session = begin(attached_sets / "input", attached_sets / "working", sets=["products-10k"])
    recipe = load_recipe(session.recipe, session.sets)
    assert [source.name for source in recipe.data.sources] == ["products10k"] and recipe.data.limits == ()
    assert not (session.data_root / "gldv2").exists()
    with pytest.raises(
        ValueError, match="SETS names 'product', which kaggle_t4 does not read; did you mean 'products10k'"
    ):
        begin(attached_sets / "input", attached_sets / "working", sets=["product"])


def test_given_weights_that_do_not_fit_are_refused(attached_sets: Path) -> None:
    hollow(attached_sets / "input/w/x.safetensors", shapes_of_open_clip("ViT-H-14"))
    hollow(attached_sets / "input/l/x.safetensors", shapes_of_open_clip("ViT-L-14"))
    with pytest.raises(FileNotFoundError, match=r"none of 1 files fits \(l/x.safetensors: .* below .*/input/l; attach"):
        begin(attached_sets / "input", attached_sets / "working", weights=[str(attached_sets / "input/l")])


def test_export_alone_needs_no_weights_that_are_not_attached(attached_sets: Path) -> None:
    sets = ("model.weights=ViT-H-14.safetensors",)
    run = make_run(attached_sets / "input/v1/artifacts/kaggle_t4", range(1, 8), recipe="kaggle_t4", sets=sets)
    session = begin(attached_sets / "input", attached_sets / "working", only_export=True)
    assert session.sets == sets and (session.run / FOLDERS[7]).resolve() == run / FOLDERS[7]
