"""A small run folder with invented numbers, exactly in the layout that doors 01 to 08 write; for tests of what only
reads it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from guie.recipe import HEAD, Data, Embed, Member, Model, Neck, Optim, Recipe, Setting, Source, Stage, Stages, Start
from guie.run import FOLDERS, PHASE_FOLDERS, Run

FINAL = "ensemble, flip, PCA-64"
FIRST = "off the shelf, PCA-64"
EVIL = (
    "</script><script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=2">',
    "Crème & 'Tea' <b>hot</b>",
    "&lt;already&gt;",
)
DOMAINS = ("clothing", 'emoji & <signs> "drawn"', "fruits360", "grocery_store")
# What objectives tell: columns of a stage's metrics.csv, with the value at the stage's begin and its end.
TOLD: dict[str, dict[str, tuple[float, float]]] = {
    "s1_head": {
        **{
            f"loss_{term}": (3.0 - i, 1.0 - i) for i, term in enumerate(("discriminative", "shared", "intra", "sample"))
        },
        "active_share": (0.9, 0.2),
        "shared_active_share": (0.95, 0.4),
        "intra_row_share": (0.5, 0.5),
        "positive_cosine": (0.3, 0.8),
        "negative_cosine": (0.05, -0.02),
        "beta_distance": (1.2, 1.05),
        "memory_fill": (0.1, 1.0),
    },
    "s3_head_wide": {
        "active_share": (0.5, 0.1),
        "drawn_distance": (0.6, 0.9),
        "held_out_r1": (0.6, 0.7),
        "held_out_nmi": (0.75, 0.8),
        "policy_turns": (1.0, 20.0),
        "n_clusters": (4.0, 4.0),
        "smallest_cluster": (80.0, 110.0),
        "largest_cluster": (300.0, 240.0),
        "left_out_share": (0.1, 0.0),
    },
}
N_CLASSES, N_IMAGES = 8, 6  # of each domain; half of the classes are for validation


def fake_recipe(domains: tuple[str, ...] = DOMAINS) -> Recipe:
    """Four stages in three phases, a ladder of five settings; a source for each domain."""
    first = Stage("s1_head", trains="head", start=Start(fresh=HEAD), optim=Optim(n_epochs=30, batch_size=256, lr=1e-3))
    second = Stage("s2_backbone", trains="backbone", optim=Optim(n_epochs=4, batch_size=32, lr=1e-4))
    wide = Stage(
        "s3_head_wide",
        trains="head",
        image_px=288,
        start=Start(of="s2_backbone", fresh=HEAD),
        optim=Optim(n_epochs=20, batch_size=256, lr=1e-3),
        neck=Neck(dim=256),
    )
    large = Stage("s4_backbone_288", trains="backbone", image_px=288, optim=Optim(n_epochs=1, batch_size=32, lr=3e-5))
    stages = Stages(head=(first,), backbone=(second,), highres=(wide, large))
    settings = (
        Setting(FIRST, (Member("pretrained", 224, output="feature"),), 64),
        Setting("head only", (Member("s1_head", 224),)),
        Setting("+ backbone", (Member("s2_backbone", 224),)),
        Setting("+ 288 px, flip", (Member("s4_backbone_288", 288, ("plain", "flip")),), 64),
        Setting(
            FINAL,
            (Member("s2_backbone", 224, ("plain", "flip")), Member("s4_backbone_288", 288, ("plain", "flip"))),
            64,
        ),
    )
    sources = tuple(Source(f"source_{i}", "folders", f"folder_{i}", domain) for i, domain in enumerate(domains))
    return Recipe("fake & <bench>", Data(sources), Model("timm", "mobilenetv2_100"), stages, Embed(settings), seed=3)


DIMENSIONS = """\
dim,code,n_bytes,mp5,mp5_low,mp5_high,loss,p,is_exported
16,float32,64,0.601,0.55,0.65,0.107,0.001,False
16,int8,16,0.6,0.55,0.65,0.108,0.001,False
64,float32,256,0.708,0.66,0.75,0.0,,True
64,int8,64,0.7079,0.66,0.75,0.0001,0.61,False
64,binary,8,0.655,0.61,0.7,0.053,0.001,False
64,"binary, 100 re-ranked by int8",72,0.7078,0.66,0.75,0.0002,0.5,False
128,float32,512,0.7154,0.67,0.76,-0.0074,0.04,False
2560,"all, without PCA",10240,0.742,,,-0.034,0.002,False
2560,"all, without PCA, binary",320,0.735,,,-0.027,0.004,False
"""


def make_fake_run(
    out: Path, n_images: int = N_IMAGES, domains: tuple[str, ...] = DOMAINS, n_classes: int = N_CLASSES
) -> Run:
    """Writes the folders of doors 01 to 08 below `out` and returns the run.

    Args:
        out: The run's folder.
        n_images: Of most classes.
        domains: Their names.
        n_classes: Of each domain; half of them are for validation.
    """
    run = Run(fake_recipe(domains), out, out)
    rng = np.random.default_rng(7)
    rows = _rows(n_images, domains, n_classes)
    _write_data(run, rows)
    index = _pack(run, rows, rng)
    for stage in run.recipe.stages.trained:
        _write_stage(run, stage, rng)
    _write_scores(run, index, rng)
    for number in range(1, 9):
        _mark(
            run.out / FOLDERS[number],
            f"door {number:02d}",
            (0.4, 0.2, 21.0, 12.5, 860.0, 1310.0, 95.0, 8.0)[number - 1],
            {"n": 12, "mean": 0.123456},
        )
    return run


def _rows(n_images: int, domains: tuple[str, ...], n_classes: int) -> pd.DataFrame:
    rows = []
    for d, domain in enumerate(domains):
        for c in range(n_classes):
            label = (
                EVIL[c]
                if d == 1 and c < len(EVIL)
                else f"class {c} of {domain.split()[0]}"
                + (" with a rather long name, as museums give them" if c == 2 else "")
            )
            split = "val" if c < n_classes // 2 else "train"
            for i in range(2 if c == 3 else n_images):
                image_id = f"source_{d}/{label.replace('/', '_')}_{i}"
                rows.append((image_id, f"folder_{d}/{i}.jpg", f"source_{d}", label, domain, split))
    table = pd.DataFrame(rows, columns=["image_id", "path", "source", "source_label", "domain", "split"])
    table = table.sort_values(["split", "source", "source_label"], ignore_index=True)
    table["class_id"] = table.groupby(["split", "source", "source_label"], sort=False).ngroup().astype("int64")
    return table.sort_values(["split", "class_id", "image_id"], ignore_index=True)


def _write_data(run: Run, rows: pd.DataFrame) -> None:
    _parquet(
        run.out / FOLDERS[1] / "problems.parquet",
        pd.DataFrame({"source": ["source_0"], "path": ["folder_0/<broken>.jpg"], "reason": ["truncated & empty"]}),
    )
    classes = (
        rows.groupby(["class_id", "source", "source_label", "domain", "split"], as_index=False)
        .size()
        .rename(columns={"size": "n_images"})
    )
    _parquet(run.out / FOLDERS[2] / "classes.parquet", classes.assign(n_rows=classes["n_images"]))
    for split in ("train", "val"):
        _parquet(run.out / FOLDERS[2] / f"{split}.parquet", rows[rows["split"] == split])
    (run.out / FOLDERS[2] / "report.json").write_text("{}")


def _pack(run: Run, rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    folder = run.out / FOLDERS[3]
    folder.mkdir(parents=True)
    with tarfile.open(folder / "shard_00000.tar", "w") as tar:
        for i, row in enumerate(rows.itertuples()):
            buffer = io.BytesIO()
            _draw(row.class_id, rng).save(buffer, "JPEG", quality=90)
            info = tarfile.TarInfo(f"{i:06d}.jpg")
            info.size = len(buffer.getvalue())
            tar.addfile(info, io.BytesIO(buffer.getvalue()))
    with tarfile.open(folder / "shard_00000.tar") as tar:
        places = [(member.offset_data, member.size) for member in tar.getmembers()]
    index = rows.assign(repeats=1, shard="shard_00000.tar", offset=[p[0] for p in places], size=[p[1] for p in places])
    index = index.assign(width=200, height=150, original_width=640, original_height=480)
    _parquet(folder / "index.parquet", index)
    _parquet(
        folder / "problems.parquet",
        pd.DataFrame({"image_id": ["source_1/x"], "path": ["folder_1/x.jpg"], "reason": ["no JPEG"]}),
    )
    _parquet(folder / "duplicates.parquet", _duplicates(index))
    return index


def _duplicates(index: pd.DataFrame) -> pd.DataFrame:
    """A training picture that validation has too, and one under two labels."""
    (train, _), (one, other) = (
        index[index["split"] == split].iloc[[0, -1]].to_dict("records") for split in ("train", "val")
    )
    pairs = [(train, one, 0, True, "left training"), (one, other, 3, False, "two labels")]
    columns = (
        "image_id",
        "twin",
        "split",
        "twin_split",
        "class_id",
        "twin_class_id",
        "n_bits",
        "is_same_file",
        "outcome",
    )
    rows = [
        (a["image_id"], b["image_id"], a["split"], b["split"], a["class_id"], b["class_id"], n, same, outcome)
        for a, b, n, same, outcome in pairs
    ]
    return pd.DataFrame(rows, columns=columns)


def _draw(class_id: int, rng: np.random.Generator) -> Image.Image:
    """A picture whose colours tell its class, its shapes which image of it."""
    own = np.random.default_rng(class_id)
    colors = [tuple(int(v) for v in own.integers(30, 225, 3)) for _ in range(3)]
    image = Image.new("RGB", (200, 150), colors[0])
    pen = ImageDraw.Draw(image)
    for color in colors[1:]:
        x, y, r = rng.integers(20, 150), rng.integers(10, 90), rng.integers(20, 50)
        (pen.ellipse if class_id % 2 else pen.rectangle)((int(x), int(y), int(x + r), int(y + r)), fill=color)
    return image


def _write_stage(run: Run, stage: Stage, rng: np.random.Generator) -> None:
    phase = run.recipe.stages.phase_of(stage.name)
    folder = run.out / PHASE_FOLDERS[phase] / stage.name
    n, per_epoch = stage.optim.n_epochs, 16 if phase == "head" else 127
    epoch = np.arange(n)
    at = (epoch + 0.5) / n
    table = pd.DataFrame(
        {"epoch": epoch, "step": (epoch + 1) * per_epoch, "loss": 12 * np.exp(-3 * at) + 2 + rng.normal(0, 0.2, n)}
    )
    for name, (first, last) in TOLD.get(stage.name, {}).items():
        table[name] = first + (last - first) * at
    table["margin_rad"] = np.minimum(0.1 + 0.1 * epoch, 0.5)
    table["lr"] = stage.optim.lr * np.sin(np.pi * at)
    table["images_per_s"], table["seconds"] = 22.5, 180.0
    table["val_mp5"] = [0.58 + 0.1 * a if phase == "backbone" or n == 1 else np.nan for a in at]
    table["val_r1"] = table["val_mp5"] + 0.08
    folder.mkdir(parents=True)
    table.to_csv(folder / "metrics.csv", index=False)
    _mark(folder, f"stage {stage.name}", 12.0 if phase == "head" else 640.0, {"loss": float(table["loss"].iloc[-1])})


def _write_scores(run: Run, index: pd.DataFrame, rng: np.random.Generator) -> None:
    folder = run.out / FOLDERS[7]
    val = index[index["split"] == "val"]
    ids = pd.DataFrame(
        {
            "image_id": val["image_id"],
            "class_id": val["class_id"],
            "domain": val["domain"],
            "pack_row": val.index.astype("int64"),
        }
    ).reset_index(drop=True)
    _parquet(folder / "val_ids.parquet", ids)
    centres = rng.normal(size=(int(ids["class_id"].max()) + 1, 64))
    vectors = centres[ids["class_id"]] + rng.normal(scale=0.7, size=(len(ids), 64))
    np.save(
        folder / "val_embeddings.npy", (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    )
    rows = []
    for i, setting in enumerate(run.recipe.embed.settings):
        members = " + ".join(f"{m.stage}@{m.image_px}" for m in setting.members)
        row = {
            "setting": setting.name,
            "members": members,
            "views": "+".join(setting.members[0].views),
            "projection": f"pca{setting.pca_dim}" if setting.pca_dim else "none",
            "dim": 64,
        }
        row |= {"n_queries": len(ids), "n_index": len(ids), "mp5": 0.588 + 0.03 * i, "r1": 0.70 + 0.025 * i}
        domains = dict.fromkeys(source.domain for source in run.recipe.data.sources)
        row |= {f"mp5_{domain}": 0.3 + 0.13 * d + 0.03 * i for d, domain in enumerate(domains)}
        row |= {f"r1_{domain}": 0.45 + 0.12 * d + 0.02 * i for d, domain in enumerate(domains)}
        row |= {"seed": run.recipe.seed, "commit": "a3ad602f0e+"}
        rows.append(row | _widths(row["mp5"], setting.pca_dim))
    pd.DataFrame(rows).to_csv(folder / "scores.csv", index=False)
    (folder / "dimensions.csv").write_text(DIMENSIONS)
    near = [_neighbours(setting, ids, p, rng) for setting, p in ((FIRST, 0.45), (FINAL, 0.7))]
    _parquet(folder / "neighbours.parquet", pd.concat(near, ignore_index=True))
    np.savez(
        folder / "pca.npz",
        mean=np.zeros(512),
        components=np.eye(64, 512),
        explained_variance=np.ones(64),
        explained_variance_ratio=np.full(64, 0.9 / 64),
    )


def _widths(mp5: float, pca_dim: int) -> dict[str, float | None]:
    """The columns of other widths: a PCA has all of them, a row without one its own 64."""
    if pca_dim:
        return {"dim_16": mp5 - 0.09, "dim_32": mp5 - 0.03, "dim_64": mp5, "dim_128": mp5 + 0.01, "dim_all": mp5 + 0.02}
    return {"dim_16": None, "dim_32": None, "dim_64": mp5, "dim_128": None, "dim_all": mp5}


def _neighbours(setting: str, ids: pd.DataFrame, p_right: float, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for query in ids.itertuples():
        same = ids[(ids["class_id"] == query.class_id) & (ids["image_id"] != query.image_id)]["image_id"].tolist()
        other = (
            ids[ids["class_id"] != query.class_id]["image_id"]
            .sample(5, random_state=int(rng.integers(1 << 30)))
            .tolist()
        )
        for rank, similarity in enumerate(np.sort(rng.uniform(0.4, 0.98, 5))[::-1], start=1):
            is_correct = bool(same) and rng.random() < p_right
            rows.append(
                (
                    setting,
                    query.image_id,
                    rank,
                    same.pop() if is_correct else other.pop(),
                    float(similarity),
                    is_correct,
                )
            )
    return pd.DataFrame(rows, columns=["setting", "query_id", "rank", "image_id", "similarity", "is_correct"])


def _mark(folder: Path, step: str, seconds: float, metrics: dict[str, float]) -> None:
    mark = {
        "step": step,
        "settings": "",
        "inputs": {},
        "outputs": {},
        "seed": 3,
        "seconds": seconds,
        "device": "cpu",
        "peak_memory_gb": 1.234,
    }
    mark |= {"metrics": metrics, "commit": "a3ad602f0e", "versions": {"python": "3.11.2", "torch": "2.11.0"}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "done.json").write_text(json.dumps(mark))


def _parquet(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.reset_index(drop=True).to_parquet(path)
