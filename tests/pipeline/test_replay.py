"""Stages of every kind against the same training written out in plain torch (`tests/replay.py`): equal weights at the
end.

From the outside: a recipe and packed images go in through the doors, `final.safetensors` and `metrics.csv` come out. No
private name of guie is touched. Only `recipe_of` and `stage_of` know how a recipe is written.
"""

from __future__ import annotations

import csv
import itertools
import pickle
import runpy
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from replay import OBJECTIVE, Outcome, Pack, Plan, Replay, Samples, Weights, fresh_head
from safetensors.torch import load_file, save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from guie.recipe import (
    Adam,
    AdamW,
    ArcFace,
    Augment,
    BlockFactors,
    ClassMargin,
    Constant,
    CosFace,
    Cosine,
    Cost,
    Data,
    Embed,
    GrowingMargin,
    LayerDecay,
    Limit,
    Member,
    Model,
    Neck,
    ObjectiveSettings,
    OneCycle,
    Optim,
    PerClass,
    Recipe,
    Setting,
    Sgd,
    Softmax,
    Source,
    Stage,
    Stages,
    Start,
    Steps,
    Validation,
    Weighted,
)
from guie.run import DOORS, PROJECT

SEED = 11
DIM = 64
AUGMENT = Augment(flip=0.5, shift=0.1, brightness=0.2, cutout=0.3)
WEIGHTS_OF_SOURCES = {"toys": 2.0}
SIZES = {
    "shops": (9, 9, 7, 5, 4, 3, 3, 2),
    "toys": (6, 5, 4, 3, 2, 2),
}  # images of each class; shops' domain has more queries than toys'
MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # as timm has it for its test networks


def recipe_of(network: str, plans: tuple[Plan, ...]) -> Recipe:
    """guie's recipe of these stages: the one place, with `stage_of`, that knows its fields."""
    sources = tuple(Source(name, "class_folders", name, name) for name in SIZES)
    limits = tuple(Limit(name, weight=weight) for name, weight in WEIGHTS_OF_SOURCES.items())
    rows = {door: tuple(stage_of(plan) for plan in plans if door_of(plan) == door) for door in (4, 5)}
    first = Member(plans[0].name, 32)  # 64-d without a PCA: there are fewer than 64 training images
    return Recipe(
        name="replay",
        data=Data(sources, limits=limits, fill_per_class=4, val_class_share=0.4, pack_px=40, duplicate_bits=-1),
        model=Model("timm", network, weights=f"{network}.safetensors", mean=MEAN_STD[0], std=MEAN_STD[1]),
        stages=Stages(head=rows[4], backbone=rows[5]),
        embed=Embed((Setting("the first stage", (first,)),)),
        seed=SEED,
    )


def stage_of(plan: Plan) -> Stage:
    return Stage(
        plan.name,
        trains=plan.trains,
        image_px=plan.image_px,
        objective=objective_of(plan),
        optim=Optim(
            n_epochs=plan.n_epochs,
            batch_size=plan.batch_size,
            lr=plan.lr,
            method={"sgd": Sgd(plan.momentum), "adam": Adam(), "adamw": AdamW()}[plan.optimizer],
            weight_decay=plan.weight_decay,
            schedule=schedule_of(plan),
            backbone_lr_factor=plan.backbone_lr_factor,
            blocks=blocks_of(plan),
            open_blocks=plan.open_blocks,
            sam_rho=plan.sam_rho,
            clip_norm=plan.clip_norm,
            ema_decay=plan.ema_decay,
        ),
        start=Start(
            of=plan.starts_from,
            fresh=tuple("objective" if part == OBJECTIVE else part for part in plan.fresh),
            has_mean_centers=plan.starts_from_means,
        ),
        neck=Neck(
            dim=DIM,
            dropouts=plan.dropouts,
            is_branched=plan.is_branched,
            has_norm=plan.has_norm,
            has_size=plan.has_size,
            hidden_dim=plan.hidden_dim,
            has_bias=plan.has_bias,
        ),
        sampling=sampling_of(plan),
        augment=plan.augment,
        cost=Cost(
            n_parts=plan.n_parts,
            has_grad_checkpoints=plan.has_grad_checkpoints,
            patch_drop=plan.patch_drop,
            n_cached_augmentations=plan.n_cached_views,
        ),
        validation=Validation(every_epochs=plan.validate_every, keeps_best=plan.keeps_best),
        sources=plan.sources,
    )


def objective_of(plan: Plan) -> ObjectiveSettings:
    """A margin that does not grow is written as a number."""
    same = {"scale": plan.scale, "label_smoothing": plan.smoothing, "n_sub_centers": plan.n_sub}
    (start, step, most), (low, high, power) = plan.margin, plan.class_margin
    margin = ClassMargin(low, high, power) if high else GrowingMargin(start, step, most) if step else start
    if plan.objective == "arcface":
        return ArcFace(margin_rad=margin, **same)
    return CosFace(margin_cosine=margin, **same) if plan.objective == "cosface" else Softmax(**same)


def sampling_of(plan: Plan) -> Weighted | PerClass:
    n = plan.images_per_class
    return PerClass(images_per_class=n, power=plan.sample_power) if n else Weighted(power=plan.sample_power)


def schedule_of(plan: Plan) -> OneCycle | Cosine | Steps | Constant:
    if plan.schedule == "step":
        return Steps(drops=plan.drops, warmup_share=plan.warmup_share)
    kind = {"one_cycle": OneCycle, "cosine": Cosine, "constant": Constant}[plan.schedule]
    return kind(warmup_share=plan.warmup_share)


def blocks_of(plan: Plan) -> LayerDecay | BlockFactors | None:
    if plan.block_edges:
        return BlockFactors(edges=plan.block_edges, factors=plan.block_factors)
    return LayerDecay(plan.layer_decay) if plan.layer_decay != 1 else None


def door_of(plan: Plan) -> int:
    return 4 if plan.is_frozen and plan.starts_from == "pretrained" else 5


# ---------------------------------------------------------------------------------------------- packed images in,
# weights out


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw images and backbones' weights, and `packed/`, a run with doors 01 to 03 done."""
    root = tmp_path_factory.mktemp("replay")
    rng = np.random.default_rng(0)
    for source, sizes in SIZES.items():
        for c, n in enumerate(sizes):
            folder = root / source / f"class_{c}"
            folder.mkdir(parents=True)
            ground = rng.integers(60, 196, (3, 3, 3))
            for i in range(n):
                pattern = np.clip(ground + rng.normal(0, 28, ground.shape), 0, 255).astype(np.uint8)
                size = (int(rng.integers(36, 72)), int(rng.integers(36, 72)))
                Image.fromarray(pattern).resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    for name in ("test_convnext", "test_vit", "test_resnet"):
        torch.manual_seed(5)
        weights = timm.create_model(name, num_classes=0).state_dict()
        for key, tensor in weights.items():
            if "running_var" in key or (key.endswith("norm.weight") and tensor.ndim == 1):
                tensor.mul_(torch.rand_like(tensor) + 0.5)
        save_file(weights, root / f"{name}.safetensors")
    for number in (1, 2, 3):
        door(number, root, root / "packed", recipe_of("test_convnext", (Plan("unused", "head", 1, 0.1),)))
    return root


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Sums of the replay and of the doors in one order on every machine: the tolerances were measured so."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


def door(number: int, root: Path, out: Path, recipe: Recipe) -> int:
    """Opens a door in this process, as `python src/0N_....py` does, and gives its exit status."""
    file = root / "recipe.py"
    (root / "recipe.pkl").write_bytes(pickle.dumps(recipe))
    file.write_text(
        f'"""For tests."""\nimport pickle\nRECIPE = pickle.load(open({str(root / "recipe.pkl")!r}, "rb"))\n'
    )
    words = ["door", "--recipe", str(file), "--data-root", str(root), "--out", str(out), "--device", "cpu"]
    before, sys.argv = sys.argv, words
    torch.manual_seed(number)  # no result may hang on what torch drew before
    try:
        runpy.run_path(str(PROJECT / DOORS[number]), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    raise AssertionError("a door ends with its status")


@dataclass
class Case:
    """Stages that start from each other, on one network, in a run folder of their own."""

    root: Path
    out: Path
    network: str
    plans: tuple[Plan, ...]

    def __post_init__(self) -> None:
        for name in ("01_manifests", "02_balanced", "03_packed"):
            if not (self.out / "replay" / name).exists():
                shutil.copytree(self.root / "packed/replay" / name, self.out / "replay" / name)

    def open(self, *numbers: int, status: int = 0) -> None:
        """Opens doors that must end with the status; those that have no stage to train are passed over."""
        recipe = recipe_of(self.network, self.plans)
        for number in numbers:
            if number in map(door_of, self.plans):
                assert door(number, self.root, self.out, recipe) == status

    def folder(self, plan: Plan) -> Path:
        (folder,) = (self.out / "replay").glob(f"0?_*/{plan.name}")
        return folder

    def weights(self, plan: Plan) -> Weights:
        return load_file(self.folder(plan) / "final.safetensors")

    def log(self, plan: Plan) -> str:
        return (self.folder(plan).parent / "log.txt").read_text(encoding="utf-8")

    def pack(self) -> Pack:
        return Pack(self.out / "replay/03_packed", WEIGHTS_OF_SOURCES)

    def curve(self, plan: Plan, column: str) -> dict[int, float]:
        with (self.folder(plan) / "metrics.csv").open() as file:
            return {int(row["epoch"]): float(row[column]) for row in csv.DictReader(file) if row[column]}

    def replayed(self, plan: Plan) -> tuple[Replay, Weights, Outcome]:
        """The replay after its end, the weights it started with, and its outcome. It starts from what guie's parent
        stage has left."""
        pack = self.pack()
        parents = {other.name: other for other in self.plans}
        parent = self.weights(parents[plan.starts_from]) if plan.starts_from in parents else {}
        own = {
            name.removeprefix("backbone.network."): tensor
            for name, tensor in parent.items()
            if name.startswith("backbone.")
        }
        network = network_of(self.network, own or load_file(self.root / f"{self.network}.safetensors"), plan.image_px)
        n_classes = len(set(pack.column("class_id", pack.rows("train", plan.sources))))
        head = fresh_head(plan, SEED, network.num_features, DIM, n_classes)
        head |= {name: tensor for name, tensor in parent.items() if name.split(".")[0] not in ("backbone", *plan.fresh)}
        replay = Replay(plan, SEED, pack, network, head, MEAN_STD)
        start = {name: tensor.detach().clone() for name, tensor in replay.all_weights().items()}
        return replay, start, replay.run()


def network_of(name: str, weights: Weights, image_px: int) -> nn.Module:
    """timm's network with these weights, built for the size by timm itself, which also interpolates the position
    embedding."""
    size = {"img_size": image_px} if "pos_embed" in weights else {}
    network = timm.create_model(name, num_classes=0, **size)
    if size:
        embedding = resample_abs_pos_embed(
            weights["pos_embed"], network.patch_embed.grid_size, num_prefix_tokens=network.num_prefix_tokens
        )
        weights = weights | {"pos_embed": embedding}
    network.load_state_dict(weights)
    return network.to(memory_format=torch.channels_last)


# Of the larger of 1 and a tensor's largest number. The replay computes in float32, but loss and updates in float64.
CLOSE = 1e-6
# The features of this head are summed otherwise in a ViT's last block (class_token.py): 1.1e-6. If the replay computes
# features in float64, the two are 1.9e-6 apart.
CLOSE_OF = {"vit_head": 2e-6}


def compare(case: Case, plan: Plan) -> Outcome:
    """A finished stage against its replay: every weight, the mean loss of each epoch, the score of each validation."""
    replay, start, outcome = case.replayed(plan)
    compare_weights(case.weights(plan), outcome.weights, start, set(replay.trained), plan.name)
    assert case.curve(plan, "loss") == pytest.approx(dict(enumerate(outcome.losses)), abs=2e-5)
    # A backbone's features are rounded otherwise (its batch norms are folded): two of nearly equal images may change
    # places.
    assert case.curve(plan, "val_mp5") == pytest.approx(outcome.scores, abs=2e-6 if plan.is_frozen else 0.03)
    return outcome


def compare_weights(got: Weights, expected: Weights, start: Weights, trained: set[str], stage: str) -> None:
    """Most tensors that train must have moved a hundred times as far as the two are apart; all else must be bit-equal
    to its start."""
    assert got.keys() == expected.keys()
    apart = {
        name: distance(got[name], tensor) / max(1.0, float(tensor.abs().max())) for name, tensor in expected.items()
    }
    worst = max(apart, key=apart.__getitem__)
    close = CLOSE_OF.get(stage, CLOSE)
    assert all(value <= close for value in apart.values()), f"{stage}: {worst} is {apart[worst]:.2e} from the replay's"
    moved = {name: distance(got[name], start[name]) for name in trained}
    share = float(np.mean([moved[name] > 100 * apart[name] for name in moved]))
    print(
        f"{stage}: {worst} is {apart[worst]:.1e} apart; {share:.0%} of {len(moved)} moved far, the farthest "
        f"{max(moved.values()):.1e}"
    )
    assert share > 0.8 and max(moved.values()) > 1e-3
    fixed = [name for name in got if name not in trained and "neck.norm" not in name]
    assert all(torch.equal(got[name], start[name]) for name in fixed)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max())


# ---------------------------------------------------------------------------------------------- the kinds of stages

BY_LABEL = (0.05, 0.45, -0.25)
KINDS: dict[str, tuple[str, tuple[Plan, ...]]] = {
    "head_classifier_neck": (
        "test_convnext",
        (
            Plan(
                "head", "head", 4, 3e-3, batch_size=10, optimizer="adamw", weight_decay=0.05, dropouts=(0.2,),
                augment=AUGMENT, n_cached_views=2, sample_power=-0.5, schedule="one_cycle", warmup_share=0.3,
                ema_decay=0.8,
            ),
            Plan(
                "objective", "objective", 2, 0.05, starts_from="head", fresh=(), dropouts=(0.3,), objective="cosface",
                momentum=0.9, schedule="cosine", warmup_share=0.2, smoothing=0.1, sample_power=-1.0, weight_decay=0.01,
                augment=Augment(flip=0.5),
            ),
            Plan(
                "neck", "neck", 2, 2e-3, starts_from="objective", fresh=("neck",), objective="softmax",
                optimizer="adam", weight_decay=0.02, warmup_share=0.4, hidden_dim=24, has_bias=False,
                images_per_class=2, clip_norm=0.5,
            ),
        ),
    ),
    "backbone_then_all": (
        "test_convnext",
        (
            Plan("first", "head", 2, 0.02, dropouts=(0.2,), margin=(0.1, 0.0, 0.1)),
            Plan(
                "backbone", "backbone", 2, 1e-3, starts_from="first", fresh=(), optimizer="adamw", weight_decay=0.05,
                augment=AUGMENT, n_parts=2, clip_norm=0.7, ema_decay=0.7, schedule="one_cycle", warmup_share=0.2,
                sample_power=-0.5, margin=(0.1, 0.15, 0.3),
            ),
            Plan(
                "all", "all", 3, 0.002, starts_from="backbone", fresh=(), dropouts=(0.2,), augment=AUGMENT,
                schedule="step", drops=(1, 2), backbone_lr_factor=4.0, sam_rho=0.05, weight_decay=1e-3,
                sample_power=-1.0,
            ),
        ),
    ),
    "transformer_blocks": (
        "test_vit",
        (
            Plan(
                "vit_head", "head", 2, 0.02, momentum=0.9, dropouts=(0.1, 0.4), n_sub=2, starts_from_means=True,
                class_margin=BY_LABEL,
            ),
            Plan(
                "open_blocks", "backbone", 2, 0.1, starts_from="vit_head", fresh=(), n_sub=2, dropouts=(0.1, 0.4),
                momentum=0.9, open_blocks=3, layer_decay=0.6, class_margin=BY_LABEL, augment=AUGMENT, weight_decay=1e-3,
            ),
            Plan(
                "by_block", "all", 2, 0.03, starts_from="open_blocks", fresh=(OBJECTIVE,), dropouts=(0.2,),
                momentum=0.5, image_px=48, block_edges=(2, 4), block_factors=(0.25, 0.5), backbone_lr_factor=5.0,
                sam_rho=0.1, ema_decay=0.9, clip_norm=1.0, augment=AUGMENT, has_grad_checkpoints=True,
                patch_drop=0.4, n_parts=2,
            ),
        ),
    ),
    "shapes_of_neck": (
        "test_convnext",
        (
            Plan(
                "normed", "head", 3, 0.02, has_norm=True, has_size=True, dropouts=(0.1, 0.3), is_branched=True,
                optimizer="adam", weight_decay=0.01, sources=("shops",),
            ),
        ),
    ),
    "batch_norm": (
        "test_resnet",
        (
            Plan("plain", "head", 1, 0.02, has_norm=True),
            Plan(
                "resnet", "backbone", 2, 0.001, starts_from="plain", fresh=(), has_norm=True, n_parts=2, momentum=0.9,
                augment=AUGMENT,
            ),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_stage_is_its_replay(root: Path, tmp_path: Path, kind: str) -> None:
    network, plans = KINDS[kind]
    case = Case(root, tmp_path, network, plans)
    case.open(4, 5)
    for plan in plans:
        compare(case, plan)


# ---------------------------------------------------------------------------------------------- the best epoch, and
# stages that are broken off


def test_best_epoch_is_kept_though_the_stage_is_broken_off_later(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(
        "best", "head", 6, 0.1, has_norm=True, momentum=0.8, dropouts=(0.5,), validate_every=1, keeps_best=True,
        augment=Augment(flip=0.5),
    )  # fmt: skip
    case = Case(root, tmp_path, "test_convnext", (plan,))
    n_steps = len(Samples(plan, SEED, case.pack()).order_of(0))
    break_off(case, 4, 4 * n_steps + 1, monkeypatch)
    case.open(4)
    assert "resumes at epoch 5, step 1" in case.log(plan)
    outcome = compare(case, plan)
    assert 0 < outcome.kept < 4 and min(outcome.scores.values()) < outcome.scores[outcome.kept]


def test_stages_that_are_broken_off_end_as_their_replay(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = Plan(
        "head", "head", 3, 2e-3, optimizer="adam", has_norm=True, dropouts=(0.2,), n_cached_views=1, augment=AUGMENT,
        ema_decay=0.9, schedule="one_cycle", warmup_share=0.3,
    )  # fmt: skip
    backbone = Plan(
        "backbone", "backbone", 3, 0.002, starts_from="head", fresh=(), has_norm=True, dropouts=(0.2,), momentum=0.9,
        augment=AUGMENT, margin=(0.1, 0.2, 0.5),
    )  # fmt: skip
    case = Case(root, tmp_path, "test_convnext", (head, backbone))
    for number, plan in ((4, head), (5, backbone)):
        for n_steps in (7, 2):  # after the second start two steps later
            break_off(case, number, n_steps, monkeypatch)
        case.open(number)
        assert case.log(plan).count("resumes at epoch 2") == 2
        compare(case, plan)


def test_patches_left_out_are_the_same_after_a_stage_is_broken_off(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = Plan("vit_head", "head", 1, 0.02)
    dropped = Plan(
        "dropped", "backbone", 2, 0.05, starts_from="vit_head", fresh=(), momentum=0.9, augment=AUGMENT,
        patch_drop=0.4, n_parts=2,
    )  # fmt: skip
    case = Case(root, tmp_path, "test_vit", (head, dropped))
    case.open(4)
    break_off(case, 5, 3, monkeypatch)
    case.open(5)
    assert "resumes at epoch 1" in case.log(dropped)
    compare(case, dropped)


def break_off(case: Case, number: int, n_steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupts a door after `n_steps` steps with a checkpoint each and one without: the clock leaps, so that each is
    due, and saving the next fails."""
    now, save, saved = time.time, torch.save, itertools.count()

    def save_or_stop(*given: object, **words: object) -> None:
        if next(saved) == n_steps:
            raise KeyboardInterrupt
        save(*given, **words)

    with monkeypatch.context() as patch:
        leap = itertools.count(step=100)
        patch.setattr(time, "time", lambda: now() + next(leap))
        patch.setattr(torch, "save", save_or_stop)
        case.open(number, status=130)


def test_checkpoint_of_other_settings_is_not_resumed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan("head", "head", 2, 0.05, momentum=0.9)
    break_off(Case(root, tmp_path, "test_convnext", (plan,)), 4, 4, monkeypatch)
    assert list(tmp_path.rglob("last.pt"))
    other = Case(root, tmp_path, "test_convnext", (replace(plan, lr=0.02),))
    other.open(4)
    compare(other, other.plans[0])
