"""A run of 96 small images with a network of random weights: doors 03 to 08 have really made it, training excepted."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from guie.evaluate.ladder import score_ladder
from guie.export.submission import export_submission
from guie.files import save_weights
from guie.model.backbone import build_side_by_side
from guie.recipe import (
    HEAD,
    Data,
    Embed,
    Export,
    Member,
    Model,
    Neck,
    Optim,
    Recipe,
    Setting,
    Source,
    Stage,
    Stages,
    Start,
)
from guie.run import Run, save_recipe

N_CLASSES, N_IMAGES = 24, 4  # half of the classes are for validation
PX = 32


def small_recipe(is_ensemble: bool = False) -> Recipe:
    """One stage. An ensemble sees its backbone at two sizes and in three views, and is projected by a PCA."""
    stage = Stage(
        "s1_head",
        trains="head",
        image_px=PX,
        start=Start(fresh=HEAD),
        optim=Optim(n_epochs=1, batch_size=8, lr=1e-3),
        neck=Neck(dim=64),
    )
    members = (Member("s1_head", PX, ("plain", "flip")), Member("s1_head", 48, ("aspect_pad",), weight=0.5))
    final = Setting("both sizes, PCA-64", members, 64) if is_ensemble else Setting("head", (Member("s1_head", PX),))
    first = Setting("off the shelf", (Member("pretrained", PX, output="feature"),))
    model = Model("timm", "test_resnet", mean=(0.48, 0.45, 0.4), std=(0.26, 0.25, 0.27))
    data = Data((Source("drawn", "class_folders", "drawn", "toys"),), pack_px=40)
    embed, export = Embed((first, final)), Export(n_parity_images=6)
    return Recipe("small", data, model, Stages(head=(stage,)), embed, export, seed=5)


def make_small_run(out: Path, is_ensemble: bool = False, recipe: Recipe | None = None) -> Run:
    """Makes the run's folders 02 to 08 below `out` and returns the run; `recipe` replaces `small_recipe`."""
    run = Run(recipe or small_recipe(is_ensemble), out.parent / "data", out)
    _pack(run)
    for stage in run.recipe.stages.trained:
        _weigh(run, stage)
    licence = {
        "source": "drawn",
        "kind": "class_folders",
        "licence": "CC0 | ours",
        "is_commercial": True,
        "page": "https://example.org",
    }
    (run.folder(2) / "licences.json").write_text(json.dumps([licence | {"n_images": 48, "n_classes": 12}]))
    save_recipe(out, run.recipe, "a test", {"recipe": "small", "set": [], "data_root": str(run.data_root)})
    score_ladder(run)
    export_submission(run)
    return run


def picture(class_id: int, number: int) -> np.ndarray:
    """uint8 [h, w, 3]: stripes whose direction and colour tell the class; sizes differ."""
    rng = np.random.default_rng(1000 * class_id + number)
    height, width = int(rng.integers(40, 60)), int(rng.integers(40, 60))
    own = np.random.default_rng(class_id)
    y, x = np.mgrid[:height, :width]
    wave = np.sin((x * own.normal() + y * own.normal()) / 2 + rng.uniform(0, 6))
    colour = own.uniform(0, 1, 3)
    return np.clip(128 + 100 * wave[..., None] * colour + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(
        np.uint8
    )


def _pack(run: Run) -> None:
    folder = run.folder(3)
    rows = []
    with tarfile.open(folder / "shard_00000.tar", "w") as tar:
        for class_id in range(N_CLASSES):
            for i in range(N_IMAGES * (2 if class_id >= N_CLASSES // 2 else 1)):
                image = picture(class_id, i)
                buffer = io.BytesIO()
                Image.fromarray(image).save(buffer, "JPEG", quality=95)
                info = tarfile.TarInfo(f"{len(rows):06d}.jpg")
                info.size = buffer.tell()
                tar.addfile(info, io.BytesIO(buffer.getvalue()))
                split = "train" if class_id >= N_CLASSES // 2 else "val"
                rows.append(
                    (
                        f"drawn/{class_id}_{i}",
                        "drawn",
                        str(class_id),
                        "toys",
                        split,
                        class_id,
                        *image.shape[1::-1],
                        info.size,
                    )
                )
    columns = ["image_id", "source", "source_label", "domain", "split", "class_id", "width", "height", "size"]
    index = pd.DataFrame(rows, columns=columns)
    with tarfile.open(folder / "shard_00000.tar") as tar:
        index["offset"] = [member.offset_data for member in tar.getmembers()]
    index = index.assign(
        path=index["image_id"] + ".jpg",
        repeats=1,
        shard="shard_00000.tar",
        original_width=index["width"],
        original_height=index["height"],
    )
    index.to_parquet(folder / "index.parquet", index=False)


def _weigh(run: Run, stage: Stage) -> None:
    """Weights of a stage, as training would have left them."""
    backbone = build_side_by_side(run.recipe.model_of(stage.name), PX, None, run.recipe.seed)
    torch.manual_seed(1)
    neck = nn.Linear(backbone.feature_dim, 64)
    weights = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    weights |= {f"neck.linear.{name}": tensor for name, tensor in neck.state_dict().items()}
    save_weights(run.stage_folder(stage.name) / "final.safetensors", weights)
