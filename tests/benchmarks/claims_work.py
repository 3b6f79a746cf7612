"""Makes the two sides of a claim: trains what they train, embeds the unseen classes, and asks the same queries."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from claims_images import changed_images
from claims_types import NO_POST, RUNGS, Arm, Projected, Rung, digest
from objectives_parts import Files
from objectives_results import code_commit
from objectives_settings import HEAD_PX, RECIPE, head_stage, settings_of
from objectives_training import (
    UNSEEN,
    Trained,
    World,
    after_neck,
    cpu_seconds,
    embedded,
    retrieval,
    trained,
    val_features,
    with_seed,
    world_of,
)

from guie.data.packed import PackedImages
from guie.embed.codes import fit_codes, signs, to_bits
from guie.embed.ensemble import rows_of
from guie.embed.pca import fit_pca
from guie.embed.postprocess import length_mixed, ranked
from guie.embed.retrieval import K, host_precision, mean_of_domains
from guie.embed.search import l2_normalised
from guie.embed.sizes import sized
from guie.evaluate.geometry import density, spectral_decay
from guie.evaluate.intervals import ClassSums, class_sums
from guie.evaluate.shift import ShiftSplit, shift_splits
from guie.files import save_json, whole_file
from guie.recipe import Model, PostProcess, Stage, Stages
from guie.train.model import Model as TrainedModel
from guie.train.schedule import n_steps_of
from guie.train.soup import averaged

Embed = Callable[[np.ndarray], np.ndarray]  # rows of the pack, int64 [n], to float32 [n, dim]
Encoded = tuple[Model, int, int]  # a backbone, the side of its images, its patch stride
OF_QUERIES = ("mp5", "r1", "map_at_r")
OF_EMBEDDING = ("spectral_decay", "density", "frechet")
SCRIPTS = ("tests/benchmarks/claims*.py", "tests/benchmarks/universal.py")


@dataclass(frozen=True)
class Asked:
    """What one side of a claim scores with one seed.

    Attributes:
        queries: class_id, domain and the metrics of each query, in the order of the validation images.
        shape: spectral_decay and density of the embeddings, and the frechet distance of a rung.
        cpu_s: CPU seconds of training and embedding, this process' and its image loaders'; without packing, and without
            the backbone's features that all arms share.
    """

    queries: pd.DataFrame
    shape: dict[str, float]
    cpu_s: float

    def value(self, metric: str) -> float:
        """The mean over domains of a metric of the queries, or a number of the embedding; `mp5@fruits` is of the
        queries of one domain."""
        if metric in OF_EMBEDDING:
            return self.shape[metric]
        name, _, domain = metric.partition("@")
        asked = self.queries[self.queries["domain"] == domain] if domain else self.queries
        return mean_of_domains(asked[name].to_numpy(), asked["domain"].to_numpy())[0]


def class_error(base: Asked, other: Asked, metric: str) -> float:
    """The standard error of `other - base` over other classes of the same kind; NaN for numbers of the embedding.

    The difference of a domain is a ratio of sums over its classes, so its variance comes by linearisation.

    Source: Cochran 1977, section 6.3.
    """
    if metric in OF_EMBEDDING:
        return float("nan")
    name, _, domain = metric.partition("@")
    queries = base.queries[["class_id", "domain"]].assign(by=other.queries[name] - base.queries[name])
    if domain:
        queries = queries[queries["domain"] == domain]
    sums = class_sums(*(queries[column].to_numpy() for column in ("by", "class_id", "domain")))
    domains = np.unique(sums.domain)
    return float(np.sqrt(sum(_variance(sums, number) for number in domains)) / len(domains))


def _variance(sums: ClassSums, domain: int) -> float:
    here = sums.domain == domain
    total, n = sums.total[here], sums.n_queries[here]
    rest = total - total.sum() / n.sum() * n
    return float((rest**2).sum() * len(n) / (len(n) - 1) / n.sum() ** 2)


def n_freedom(asked: Asked, metric: str) -> int:
    """Degrees of freedom of `class_error`: the classes less one of each domain; 1 for numbers of the embedding."""
    if metric in OF_EMBEDDING:
        return 1
    _, _, domain = metric.partition("@")
    queries = asked.queries[asked.queries["domain"] == domain] if domain else asked.queries
    return int(queries["class_id"].nunique() - queries["domain"].nunique())


class Bench:
    """Worlds of images and features, and what arms have scored in them."""

    def __init__(self, data_root: Path, out: Path, kept: Path, files: Files, device: str = "cpu") -> None:
        """Data sets are in `data_root`, packed images and features in `out`, what arms have scored in `kept`; `files`
        has the search's choices; networks are on `device`, as the doors name it."""
        self.data_root, self.out, self.kept, self.files, self.device = data_root, out, kept, files, device
        self._worlds: dict[tuple[Encoded, int], World] = {}
        self._ladders: dict[int, list[list[ShiftSplit]]] = {}  # by seed, for each domain

    def asked(self, arm: Arm, seed: int) -> Asked:
        """The scores of an arm, made or read from an earlier start with the same code, settings and kind of device."""
        on_card = "" if self.device == "cpu" else "_card"
        folder = self.kept / f"{digest(arm, self._stages(arm, seed))}_{seed}_{code_commit(*SCRIPTS)}{on_card}"
        queries, noted = folder / "queries.parquet", folder / "noted.json"
        if noted.is_file():
            told = json.loads(noted.read_text(encoding="utf-8"))
            return Asked(pd.read_parquet(queries), told["shape"], told["cpu_s"])
        found = self._ask(arm, seed, folder)
        with whole_file(queries) as temporary:
            found.queries.to_parquet(temporary)
        save_json(noted, {"shape": found.shape, "cpu_s": found.cpu_s})  # last: it says that the folder is whole
        return found

    def _ask(self, arm: Arm, seed: int, folder: Path) -> Asked:
        shutil.rmtree(folder, ignore_errors=True)  # of a start that was broken off, whose seconds nobody noted
        folder.mkdir(parents=True)
        world = self._world(arm, seed)
        for other in (arm, *arm.joined):  # features, before the clock starts
            self._world(other, seed)
            self._taught(other, seed)
        val = rows_of(world.packed, "val")
        began = cpu_seconds()
        embeddings = self._embedded(arm, seed, folder)(val)
        cpu_s = cpu_seconds() - began
        ids = world.packed.index.iloc[val]
        unit = l2_normalised(embeddings)
        intra, inter = density(unit, ids["class_id"].to_numpy())
        shape = {"spectral_decay": spectral_decay(unit), "density": intra / inter}
        if arm.rung:
            splits = [on_rung(splits, arm.rung) for splits in self._ladders[seed]]
            shape["frechet"] = float(np.mean([split.frechet for split in splits]))
        return Asked(_queries(embeddings, ids, arm.post), shape, cpu_s)

    def _embedded(self, arm: Arm, seed: int, folder: Path) -> Embed:
        """What makes embeddings of images, with what the arm does after its networks."""
        world = self._world(arm, seed)
        parts = [self._network(arm, seed, folder)]
        parts += [self._network(other, seed, folder / f"joined{i}") for i, other in enumerate(arm.joined)]

        def joined(rows: np.ndarray) -> np.ndarray:
            return np.concatenate([l2_normalised(part(rows)) for part in parts], axis=1)

        embed = joined if arm.joined else parts[0]
        train = np.flatnonzero((changed_images(world, arm.images, seed).index["split"] == "train").to_numpy())
        if arm.projected is not None:
            embed = _projected(embed, arm.projected, train)
        if arm.post.length_mix:
            embed = _mixed(embed, arm.post.length_mix, train)
        return _coded(embed, arm.code, train) if arm.code else embed

    def _network(self, arm: Arm, seed: int, folder: Path) -> Embed:
        """What makes embeddings of images, by one network."""
        world = self._world(arm, seed)
        stages = self._stages(arm, seed)
        if not stages:
            return lambda rows: _mean_of_views(world, arm, lambda features: features, rows)
        taught = self._taught(arm, seed)
        packed = changed_images(taught, arm.images, seed)
        n_all, n_here = (len(rows_of(of, "train")) for of in (taught.packed, packed))
        stages = tuple(_with_steps(stage, n_all, n_here) for stage in stages)
        if any(not stage.is_backbone_frozen for stage in stages):
            recipe = replace(taught.run.recipe, stages=Stages(head=stages))
            backbone = copy.deepcopy(taught.encoder.backbone)
            own = replace(
                taught, run=replace(taught.run, recipe=recipe), encoder=replace(taught.encoder, backbone=backbone)
            )
            model = _in_turn(own, packed, stages, folder).model
            return lambda rows: _of_moved(own, model, rows)
        models = [_in_turn(taught, packed, _numbered(stages, i), folder).model for i in range(arm.n_averaged)]
        necks = averaged([model.neck.state_dict() for model in models])
        models[0].neck.load_state_dict(necks)
        neck = models[0].neck
        shape = stages[-1].neck

        def embed(rows: np.ndarray) -> np.ndarray:
            def of(features: np.ndarray) -> np.ndarray:
                return after_neck(neck, sized(features, world.packed, rows, shape))

            return _mean_of_views(world, arm, of, rows)

        return embed

    def _taught(self, arm: Arm, seed: int) -> World:
        """The images that an arm is trained on, at the resolution of its last stage."""
        return self._world(replace(arm, image_px=0), seed)

    def _stages(self, arm: Arm, seed: int) -> tuple[Stage, ...]:
        if not arm.objective:
            return arm.stages
        objective, lr = settings_of(arm.objective)[self.files.chosen(seed, arm.objective)]
        stage = head_stage(arm.objective, objective, lr)
        return (replace(stage, optim=replace(stage.optim, n_epochs=round(stage.optim.n_epochs * arm.time))),)

    def _world(self, arm: Arm, seed: int) -> World:
        """The images of a seed, split as the arm asks, with the features of its backbone at its resolution."""
        world = self._of_seed(arm, seed)
        if not arm.rung:
            return world
        if seed not in self._ladders:
            self._ladders = {seed: ladders(world)}
        splits = [on_rung(splits, arm.rung) for splits in self._ladders[seed]]
        classes = world.packed.index["class_id"]
        split = np.full(len(classes), UNSEEN, dtype=object)
        for side in ("train", "test"):
            is_there = classes.isin(np.concatenate([getattr(of_domain, side) for of_domain in splits]))
            split[is_there.to_numpy()] = "train" if side == "train" else "val"
        packed = copy.copy(world.packed)
        packed.index = world.packed.index.assign(split=split)
        return replace(world, packed=packed)

    def _of_seed(self, arm: Arm, seed: int) -> World:
        """The images of a seed in its own split. Seed 0's features serve all seeds, and those of one other are kept."""
        stages = self._stages(arm, seed)
        px = arm.image_px or (stages[-1].image_px if stages else HEAD_PX)
        recipe = RECIPE if arm.model is None else replace(RECIPE, model=arm.model)
        if arm.has_first_split and seed:
            world = self._of_seed(replace(arm, image_px=px), 0)
            return replace(world, run=replace(world.run, recipe=with_seed(recipe, seed)))
        key = ((recipe.model, px, arm.patch_stride), seed)
        if key not in self._worlds:
            first = self._of_seed(arm, 0) if seed else None
            self._worlds = {known: world for known, world in self._worlds.items() if known[1] in (0, seed)}
            own = with_seed(recipe, seed)
            words = {"patch_stride": arm.patch_stride, "device": self.device}
            self._worlds[key] = world_of(own, px, self.data_root, self.out, first, **words)
        return self._worlds[key]


def ladders(world: World) -> list[list[ShiftSplit]]:
    """For each domain the splits of growing distance: at random, after all swaps, and with half of the classes
    removed. A step that moves the sides no farther apart is not there."""
    index, found = world.packed.index, []
    for _, of_domain in index.groupby("domain", sort=True):
        rows = index.index.get_indexer(of_domain.index)
        classes = of_domain["class_id"].to_numpy()
        found.append(shift_splits(world.features["plain"][rows], classes, n_splits=3, seed=world.run.recipe.seed))
    return found


def on_rung(splits: list[ShiftSplit], rung: Rung) -> ShiftSplit:
    """The last split that is no farther along than a rung."""
    return [split for split in splits if RUNGS.index(split.how) <= RUNGS.index(rung)][-1]  # type: ignore[arg-type]


def _with_steps(stage: Stage, n_all: int, n_here: int) -> Stage:
    """The stage with so many epochs of `n_here` images that it has as many steps as with `n_all`."""
    optim = stage.optim
    n_times = n_steps_of(optim.batch_size, n_all) / n_steps_of(optim.batch_size, n_here)
    return replace(stage, optim=replace(optim, n_epochs=round(optim.n_epochs * n_times)))


def _numbered(stages: tuple[Stage, ...], i: int) -> tuple[Stage, ...]:
    """The stages of the i-th of several trainings: their names, and so their random numbers, differ."""
    return tuple(replace(stage, name=f"{stage.name}_{i}") for stage in stages) if i else stages


def _in_turn(world: World, packed: PackedImages, stages: tuple[Stage, ...], folder: Path) -> Trained:
    """Trains one stage after the other. What a later one starts anew is built as the first one's is."""
    found = trained(world, packed, stages[0], folder / stages[0].name)
    for stage in stages[1:]:
        if stage.start.fresh:
            raise ValueError(f"{stage.name}: these stages go on with all weights")
        found = trained(world, packed, stage, folder / stage.name, found.model)
    return found


def _mean_of_views(world: World, arm: Arm, of: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    outputs = [of(world.features[view][rows]) for view in arm.views]
    return np.asarray(np.mean(outputs, axis=0), np.float32)


def _of_moved(world: World, model: TrainedModel, rows: np.ndarray) -> np.ndarray:
    """Embeddings of validation images by a model whose backbone has been trained."""
    if not np.array_equal(rows, rows_of(world.packed, "val")):
        raise ValueError("a moved backbone embeds the validation images alone here")
    features = val_features(world, world.packed, model, world.encoder.image_px)
    return embedded(model, features)


def _projected(embed: Embed, how: Projected, train: np.ndarray) -> Embed:
    """The same after a PCA that is fitted on the training images."""

    def prepared(rows: np.ndarray) -> np.ndarray:
        return l2_normalised(embed(rows)) if how.is_unit else embed(rows)

    pca = fit_pca(prepared(train), how.dim, how.whiten)
    return lambda rows: pca.transform(prepared(rows))[:, : how.n_first or how.dim]


def _mixed(embed: Embed, mix: float, train: np.ndarray) -> Embed:
    """The same with mixed lengths, as door 07 mixes them."""
    typical = float(np.linalg.norm(embed(train), axis=1).mean())
    return lambda rows: length_mixed(embed(rows), mix, typical)


def _coded(embed: Embed, code: str, train: np.ndarray) -> Embed:
    """What the codes of embeddings stand for."""
    if code == "bits":
        return lambda rows: signs(to_bits(embed(rows)))
    codes = fit_codes(embed(train))
    return lambda rows: codes.from_int8(codes.to_int8(embed(rows)))


def _queries(embeddings: np.ndarray, ids: pd.DataFrame, post: PostProcess) -> pd.DataFrame:
    """class_id, domain and the metrics of each image, which searches all others; with post-processing mp5 alone."""
    if post == NO_POST:
        return retrieval(embeddings, ids)[["class_id", "domain", *OF_QUERIES]].reset_index(drop=True)
    rows, _ = ranked(embeddings, K, post)
    classes = ids["class_id"].to_numpy()
    is_correct = (rows >= 0) & (classes[rows] == classes[:, None])
    n_others = pd.Series(classes).groupby(classes).transform("size").to_numpy() - 1
    table = ids[["class_id", "domain"]].reset_index(drop=True)
    return table.assign(mp5=host_precision(is_correct, n_others))
