"""An ensemble of two backbones whose pixels are normalised by other numbers: features, export and by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from small_run import PX, make_small_run, small_recipe

from guie.data.packed import PackedImages
from guie.embed.ensemble import load_tower, rows_of, stage_weights
from guie.embed.views import normalise, to_square
from guie.export.submission import load_script
from guie.model.backbone import build_backbone
from guie.recipe import HEAD, Embed, Member, Model, Recipe, Setting, Stages, Start

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # timm's for this network
OTHER = Model("timm", "test_efficientnet")


def two_backbones() -> Recipe:
    """`small_recipe` with a second stage on a network of its own."""
    recipe = small_recipe()
    first = recipe.stage("s1_head")
    second = replace(first, name="s2_head", start=Start(of="pretrained", fresh=HEAD, model=OTHER))
    setting = Setting("two", (Member("s1_head", PX), Member("s2_head", PX, ("plain", "flip"), weight=0.5)), 32 * 2)
    embed = Embed((*recipe.embed.settings[:1], setting))
    return replace(recipe, stages=Stages(head=(first, second)), embed=embed).validate()


def test_each_network_sees_its_own_pixels(tmp_path: Path) -> None:
    run = make_small_run(tmp_path / "run", recipe=two_backbones())  # door 08 compares the file with door 07
    card = json.loads((run.folder(8) / "card.json").read_text())
    assert card["parity"]["min_cosine"] > 1 - 1e-5
    assert [tuple(model["mean"]) for model in card["models"]] == [(0.48, 0.45, 0.4), IMAGENET[0]]
    image = torch.from_numpy(PackedImages(run.folder(3)).read(5)).permute(2, 0, 1)[None]
    square = to_square(image, PX)
    backbone = build_backbone(OTHER, PX, None, run.recipe.seed).eval()
    neck = stage_weights(run, "s2_head", "neck")
    with torch.no_grad():
        by_hand = backbone(normalise(square, *IMAGENET)) @ neck["linear.weight"].T + neck["linear.bias"]
        tower = load_tower(run, run.recipe.embed.final.members[1])
        got = tower.module(normalise(square, (0.48, 0.45, 0.4), (0.26, 0.25, 0.27)))
    assert torch.allclose(got, by_hand, atol=1e-4) and by_hand.std() > 0.01


def test_exported_file_gives_door_07s_embedding_of_every_image(tmp_path: Path) -> None:
    run = make_small_run(tmp_path / "run", recipe=two_backbones())
    packed, module = PackedImages(run.folder(3)), load_script(run.folder(8) / "saved_model.pt")
    expected = np.load(run.folder(7) / "val_embeddings.npy")
    with torch.no_grad():
        for row, embedding in zip(rows_of(packed, "val")[:6], expected, strict=False):
            got = module(torch.from_numpy(packed.read(int(row))).permute(2, 0, 1)[None])[0].numpy()
            assert np.abs(got - embedding).max() < 1e-4
