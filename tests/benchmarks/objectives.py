"""All objectives under equal conditions, scored on classes that training never saw.

Each trains a 64-d head on the cached features of minibench's MobileNetV2 at 224 px.

Every objective trains the same linear neck for the same 20 epochs of batches of 128 (32 classes, 4 images each; margins
and proxies of single images as well) with the same optimizer; its own numbers are the published ones, which are the
defaults of its settings. The scores are those of one merged index of all domains. The seconds are those of an epoch of
steps, on one thread where several rows run beside each other.

A row of a seed that is finished is skipped, so the script may be broken off and started again.

Run: python tests/benchmarks/objectives.py --data-root ../shared/data            five seeds, all objectives
     python tests/benchmarks/objectives.py --only Contrastive Triplet --seeds 0
     python tests/benchmarks/objectives.py --table-only                          from objectives.csv
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from guie.recipe import (
    HEAD,
    Augment,
    Embed,
    Member,
    Neck,
    Optim,
    PerClass,
    Recipe,
    Setting,
    Stage,
    Stages,
    Start,
    load_recipe,
)
from guie.recipes.minibench import RECIPE as MINIBENCH
from guie.run import DOORS, PROJECT, Run
from guie.settings.objective import (
    ArcFace,
    BatchHard,
    Bier,
    Circle,
    Contrastive,
    CosFace,
    DistanceContrastive,
    DistanceWeighted,
    Diva,
    DivideConquer,
    EasyPositive,
    GroupLoss,
    HierarchicalDivide,
    KoLeo,
    LiftedStructure,
    MarginLoss,
    Memory,
    MessagePassing,
    Mic,
    MultiSimilarity,
    NtXent,
    Pads,
    ProxyAnchor,
    ProxyGml,
    ProxyNca,
    RhoContrastive,
    RhoMargin,
    RhoTriplet,
    SemiHard,
    SharingMatters,
    Softmax,
    SoftTriple,
    SphereFace,
    SphereFaceR,
    Sum,
    SupCon,
    ThresholdConsistentMargin,
    Triplet,
)

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "objectives.csv"
PX, N_EPOCHS, BATCH, PER_CLASS, LR = 224, 20, 128, 4, 1e-3
SCORES = ("mp5", "r1", "map_at_r", "nmi", "spectral_decay", "density")
OBJECTIVES: dict[str, Any] = {
    "ArcFace": ArcFace(margin_rad=0.3),
    "CosFace": CosFace(margin_cosine=0.2),
    "Softmax": Softmax(scale=20.0),
    "SphereFace": SphereFace(),
    "SphereFaceR": SphereFaceR(),
    "ProxyNca": ProxyNca(),
    "ProxyNca_original": ProxyNca(is_plus_plus=False, scale=1.0),
    "ProxyAnchor": ProxyAnchor(),
    "SoftTriple": SoftTriple(),
    "ProxyGml": ProxyGml(),
    "Contrastive": Contrastive(),
    "Contrastive_memory": Contrastive(memory=Memory(size=2048, start_step=60)),
    "DistanceContrastive": DistanceContrastive(),
    "Triplet": Triplet(),
    "Triplet_semihard": Triplet(miner=SemiHard()),
    "Triplet_easy_positive": Triplet(miner=EasyPositive()),
    "Triplet_batch_hard": Triplet(miner=BatchHard(), has_soft_margin=True, margin_distance=0.0),
    "MarginLoss": MarginLoss(miner=DistanceWeighted()),
    "LiftedStructure": LiftedStructure(is_generalised=True),
    "MultiSimilarity": MultiSimilarity(),
    "MultiSimilarity_memory": MultiSimilarity(memory=Memory(size=2048, start_step=60)),
    "NtXent": NtXent(),
    "SupCon": SupCon(),
    "Circle": Circle(),
    "RhoMargin": RhoMargin(),
    "RhoTriplet": RhoTriplet(),
    "RhoContrastive": RhoContrastive(),
    "Contrastive_KoLeo": Sum(terms=(Contrastive(), KoLeo())),
    "Softmax_TCM": Sum(terms=(Softmax(scale=20.0), ThresholdConsistentMargin())),
    "Bier": Bier(),
    "DivideConquer": DivideConquer(n_clusters=2),
    "HierarchicalDivide": HierarchicalDivide(n_clusters=2, n_divided_epochs=10),
    "Mic": Mic(),
    "SharingMatters": SharingMatters(),
    "Diva": Diva(),
    "GroupLoss": GroupLoss(),
    "MessagePassing": MessagePassing(),
    "Pads": Pads(),
}


def stage(name: str, objective: Any) -> Stage:
    """The head stage that an objective trains."""
    return Stage(
        name,
        trains="head",
        image_px=PX,
        start=Start(of="pretrained", fresh=HEAD),
        neck=Neck(dim=64),
        objective=objective,
        optim=Optim(n_epochs=N_EPOCHS, batch_size=BATCH, lr=LR),
        sampling=PerClass(images_per_class=PER_CLASS, power=-0.5),
        augment=Augment(flip=0.5),
    )


RECIPE = Recipe(
    name="objectives",
    data=MINIBENCH.data,
    model=MINIBENCH.model,
    stages=Stages(head=tuple(stage(name, objective) for name, objective in OBJECTIVES.items())),
    embed=Embed(tuple(Setting(name, (Member(name, PX),)) for name in OBJECTIVES)),
)


def main() -> None:
    """Runs what is not done and prints the table."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data-root", type=Path, default=PROJECT.parent / "shared/data")
    p.add_argument("--out", type=Path, default=PROJECT / "artifacts/objectives")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    p.add_argument("--only", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES), metavar="OBJECTIVE")
    p.add_argument("--table-only", action="store_true", help="print the table of objectives.csv and end")
    arguments = p.parse_args()
    if not arguments.table_only:
        for seed in arguments.seeds:
            run_seed(seed, arguments)
    print(table(pd.read_csv(RESULTS)))


def run_seed(seed: int, arguments: argparse.Namespace) -> None:
    """Trains and scores the objectives that this seed lacks; a row of objectives.csv each."""
    out = arguments.out / f"seed{seed}"
    options = ["--recipe", __file__, "--data-root", str(arguments.data_root), "--out", str(out), "--device", "cpu"]
    for door in (1, 2, 3):
        command = [sys.executable, str(PROJECT / DOORS[door]), *options, "--set", f"seed={seed}"]
        subprocess.run(command, check=True, stdout=sys.stderr)
    recipe = load_recipe(__file__, [f"seed={seed}"])
    run = Run(recipe, arguments.data_root.resolve(), (out / recipe.name).resolve(), "cpu")
    for name in arguments.only:
        known = pd.read_csv(RESULTS) if RESULTS.is_file() else pd.DataFrame(columns=["seed", "objective"])
        if not ((known["seed"] == seed) & (known["objective"] == name)).any():
            row = {"seed": seed, "objective": name, **scored_row(run, name)}
            pd.concat([known, pd.DataFrame([row])], ignore_index=True).to_csv(RESULTS, index=False)


def scored_row(run: Run, name: str) -> dict[str, float]:
    """Trains an objective's stage and scores its embeddings of the validation images."""
    from guie.data.packed import PackedImages
    from guie.embed.accelerator import make_accelerator
    from guie.embed.ensemble import MemberFeatures, embed, rows_of
    from guie.embed.features import FeatureStore
    from guie.embed.retrieval import mean_of_domains, retrieve, summarise
    from guie.evaluate.geometry import clusters, geometry
    from guie.evaluate.metrics import METRICS
    from guie.evaluate.protocols import merged, scored
    from guie.train.stage import train_row

    packed, accelerator = PackedImages(run.folder(3)), make_accelerator("cpu")
    began = time.time()
    train_row(run, run.recipe.row(name), packed, accelerator)
    seconds = time.time() - began
    val = packed.index.iloc[rows_of(packed, "val")]
    store = FeatureStore(run, packed, accelerator)
    setting = next(setting for setting in run.recipe.embed.settings if setting.name == name)
    embeddings = embed(run, setting, MemberFeatures(store))[0]["val"]
    class_ids, domains = val["class_id"].to_numpy(), val["domain"].to_numpy()
    scores = summarise(retrieve(embeddings, class_ids), domains)
    queries = scored(embeddings, val, merged(val))
    deeper = {metric: mean_of_domains(queries[metric].to_numpy(), domains)[0] for metric in METRICS}
    curve = pd.read_csv(run.stage_folder(name) / "metrics.csv")
    found = {**deeper, **scores, **geometry(embeddings, class_ids), **clusters(embeddings, class_ids)}
    rows = {score: round(float(found[score]), 6) for score in SCORES}
    return rows | {"epoch_s": float(curve["seconds"].median()), "stage_s": round(seconds, 2)}


def table(results: pd.DataFrame) -> str:
    """Markdown: the objectives by mP@5, with the half width of the 95 % interval of the mean over the seeds
    (Student's t)."""
    lines = [
        "| objective | seeds | mP@5 | R@1 | MAP@R | NMI | ρ | density | s an epoch |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    means = results.groupby("objective")["mp5"].mean().sort_values(ascending=False)
    for name in means.index:
        rows = results[results["objective"] == name]
        cells = [with_interval(rows[score]) for score in SCORES]
        lines.append(f"| {name} | {len(rows)} | {' | '.join(cells)} | {rows['epoch_s'].median():.2f} |")
    return "\n".join(lines)


def with_interval(values: pd.Series) -> str:
    """`.641 ± .003`: the mean and half the width of its 95 % interval; of one value the value."""
    mean = f"{values.mean():.3f}".removeprefix("0")
    if len(values) < 2:
        return mean
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return f"{mean} ± {f'{half:.3f}'.removeprefix('0')}"


if __name__ == "__main__":
    main()
