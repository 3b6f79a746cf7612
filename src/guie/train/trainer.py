"""The one trainer: every stage of every recipe, resumable at any moment."""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from tqdm.auto import tqdm

from guie.checkpoint import load_state, save_state, save_weights, whole_file
from guie.data.packing import PackedImages
from guie.done import is_done, mark_done, outputs_digest, read_done, remove_damaged
from guie.embed.accelerator import make_accelerator, precision_of
from guie.embed.ensemble import check_rows, load_backbone, stage_weights
from guie.errors import memory_remedy
from guie.model.check import check_models
from guie.model.embedder import Embedder, build_embedder, load_parts
from guie.model.margin import class_margins, margin_at, margin_of
from guie.model.normalisation import check_normalisation
from guie.model.pooling import keep_less
from guie.run import Run, keep_conditions, peak_memory_gb
from guie.settings.names import PRETRAINED
from guie.settings.objective import ClassMargin, GrowingMargin
from guie.settings.stage import Soup, Stage
from guie.train.batches import Batches, FeatureBatches, ImageBatches, TrainSet, less_memory, start_centers
from guie.train.curves import Curves, write_metrics
from guie.train.parameters import blocks_of, climbed, close_blocks, make_optimizer
from guie.train.schedule import lr_at, seed_of
from guie.train.sharding import like, optimizer_state, own_part, set_optimizer_state, shard, whole
from guie.train.soup import cook
from guie.train.validation import validated
from guie.versions import AUGMENTATION, EXTRACTION

log = logging.getLogger(__name__)
CHECKPOINT_S = 60.0
TRAINED_PARTS = {
    "objective": ("classifier",),
    "neck": ("neck",),
    "head": ("neck", "classifier"),
    "backbone": ("backbone",),
    "all": ("backbone", "neck", "classifier"),
}


def train_phase(run: Run, phase: str) -> dict[str, Any]:
    """Runs the recipe's stages of one phase, one after the other; finished ones are skipped.

    Returns:
        The validation scores of the phase's last stage, the number of stages and their seconds, and the mean and std of the pixels.
    """
    accelerator = make_accelerator(run.device, precision_of(run.device))
    mean, std = check_models(run.recipe) if phase == "head" else check_normalisation(run.recipe)  # door 04 is the first that needs them
    packed = PackedImages(run.folder(3))
    check_rows(run.recipe, packed)
    stages = run.recipe.stages.of_phase(phase)
    results = []
    for row in stages:
        with memory_remedy(less_memory(run.recipe.stage(row.name))):
            results.append(train_stage(run, row, packed, accelerator))
    if not stages:
        log.info("the recipe has no stage of phase %r; nothing to train", phase)
    last = results[-1] if results else {}
    return {"n_stages": len(stages), **last, "mean": mean, "std": std, "stage_seconds": sum(r["stage_seconds"] for r in results)}


def train_stage(run: Run, row: Stage | Soup, packed: PackedImages, accelerator: Accelerator) -> dict[str, Any]:
    """Trains one stage from its parent's weights and writes its folder; returns its validation scores and seconds.

    Raises:
        ValueError: a batch that the processes cannot share equally, or a batch norm's statistics.
    """
    stage, soup = run.recipe.stage(row.name), row if isinstance(row, Soup) else None
    batch_size = stage.optim.batch_size
    if batch_size % accelerator.num_processes:
        raise ValueError(
            f"stages.{stage.name}.optim.batch_size is {batch_size}, which {accelerator.num_processes} processes cannot share equally; "
            f"make it a multiple of {accelerator.num_processes}"
        )
    if stage.neck.has_norm and "neck" in TRAINED_PARTS[stage.trains] and accelerator.num_processes > 1 and accelerator.device.type != "cuda":
        raise ValueError(f"stages.{stage.name}.neck.has_norm: its statistics are those of the whole batch, which CPUs do not share; start one process")
    folder = run.stage_folder(row.name)
    settings = run.recipe.digest("model", "data.limits", "seed", f"stages.{row.name}", augmentation=AUGMENTATION, extraction=EXTRACTION)
    parent = run.recipe.parent(row)
    inputs = {
        "03_packed": outputs_digest(run.folder(3)),
        "parent": f"{PRETRAINED} {run.weights_digest()}" if parent == PRETRAINED else outputs_digest(run.stage_folder(parent)),
    }
    if soup:
        inputs["soup"] = " ".join(outputs_digest(run.stage_folder(name)) for name in soup.of)
    if is_done(folder, settings, inputs, run.verify):
        log.info("stage %s: already done", row.name)
        mark = read_done(folder)
        assert mark is not None
        keep_conditions(row.name, mark, accelerator.device.type)
        return {**mark["metrics"], "stage_seconds": mark["seconds"]}
    sees = f"{stage.image_px} px" + (f", patch stride {stage.patch_stride}," if stage.patch_stride else "")
    if soup:
        log.info("stage %s: the soup of %s", row.name, ", ".join(soup.of))
    else:
        log.info("stage %s: trains %s at %s for %d epochs, from %s", stage.name, stage.trains, sees, stage.optim.n_epochs, parent)
    started = time.time()
    if accelerator.is_main_process:
        remove_damaged(folder, run.verify)
    with accelerator.main_process_first():
        for name in ("done.json", "not_finite.txt"):
            (folder / name).unlink(missing_ok=True)
    train_set = TrainSet(run.recipe, stage, packed)
    embedder = _start_embedder(run, stage, train_set.n_classes, is_soup=bool(soup)).to(accelerator.device)
    history: list[dict[str, Any]] = [{}]
    is_best = False
    if soup:
        cook(run, soup, embedder, packed, accelerator)
    else:
        loop = StageLoop(run, stage, packed, train_set, embedder, accelerator, key=f"{settings} {inputs}")
        loop.run_epochs()
        embedder = loop.whole_embedder()
        history, started, is_best = loop.history, started - loop.seconds_before, bool(loop.best)
    scores = {name: round(value, 6) for name, value in validated(run, stage, embedder, packed, accelerator, is_kept=True).items()}
    log.info("stage %s: validation mP@5 %.3f, R@1 %.3f", row.name, scores["mp5"], scores["r1"])
    if accelerator.is_main_process:
        if not is_best:  # whose own row has them
            history[-1] |= {"val_mp5": scores["mp5"], "val_r1": scores["r1"]}
        write_metrics(folder / "metrics.csv", history)
        save_weights(folder / "final.safetensors", embedder.state_dict())
        mark_done(run, folder, f"stage {row.name}", settings, inputs, started, scores)
        (folder / "last.pt").unlink(missing_ok=True)
    if not soup:
        loop.curves.add({"step": history[-1]["step"], "result_mp5": scores["mp5"], "result_r1": scores["r1"]})
        loop.curves.close()
        del loop
    accelerator.free_memory()  # it would keep this stage's model and optimizer as long as the phase lasts
    accelerator.wait_for_everyone()
    return {**scores, "stage_seconds": time.time() - started}


def _start_embedder(run: Run, stage: Stage, n_classes: int, is_soup: bool) -> Embedder:
    """The embedder with its parent's weights, but for the parts that the stage starts anew."""
    parent = run.recipe.parent(stage)
    backbone = load_backbone(run, parent, stage.image_px, stage.patch_stride, run.recipe.model_of(stage.name))
    embedder = build_embedder(backbone, stage, n_classes, seed_of(run.recipe.seed, stage.name))
    if parent != PRETRAINED and not is_soup:
        load_parts(embedder, stage_weights(run, parent), {"backbone", *stage.start.fresh}, f"stage {stage.name} from {parent}")  # its backbone is loaded
    return embedder


class StageLoop:
    """The epochs of one stage, with everything that a checkpoint must hold."""

    def __init__(self, run: Run, stage: Stage, packed: PackedImages, train_set: TrainSet, embedder: Embedder, accelerator: Accelerator, key: str) -> None:
        """Prepares model, optimizer and batches, and goes back to the last checkpoint if there is one of the same `key`."""
        self.run, self.stage, self.packed, self.train_set, self.accelerator, self.key = run, stage, packed, train_set, accelerator, key
        self.checkpoint = run.stage_folder(stage.name) / "last.pt"
        self.history: list[dict[str, Any]] = []
        self.epoch = self.step = 0  # the next step to take
        self.started, self.seconds_before = time.time(), 0.0  # of earlier starts
        self.best: dict[str, Any] = {}  # of the stage so far: epoch, mp5, weights
        self.running: list[float] = [0.0, 0.0, 0.0]  # of this epoch: sum of losses, steps, seconds
        if stage.cost.has_grad_checkpoints:
            keep_less(embedder.backbone.network)
        trained = TRAINED_PARTS[stage.trains]
        counts = torch.from_numpy(np.bincount(train_set.labels, weights=train_set.repeats, minlength=train_set.n_classes))
        self.margin = margin_of(stage.objective)
        self.class_margins = class_margins(self.margin, counts).to(accelerator.device) if isinstance(self.margin, ClassMargin) else None
        for name, parameter in embedder.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in trained)
        close_blocks(embedder, stage)
        self.batches: Batches = (
            FeatureBatches(run, stage, packed, train_set, accelerator, embedder.backbone)
            if stage.is_backbone_frozen
            else ImageBatches(run, stage, packed, train_set, accelerator)
        )
        if stage.start.has_mean_centers:
            assert isinstance(self.batches, FeatureBatches)
            start_centers(embedder, self.batches, train_set, accelerator)
        if stage.neck.has_norm and accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            embedder.neck = torch.nn.SyncBatchNorm.convert_sync_batchnorm(embedder.neck)
        self.is_sharded = stage.cost.has_sharded_weights and accelerator.num_processes > 1
        if self.is_sharded:
            self.plain = copy.deepcopy(embedder).cpu()
            whole_size = sum(p.numel() for p in embedder.parameters())
            shard(embedder, blocks_of(embedder), accelerator.device)
            own_size = sum(own_part(p).numel() for p in embedder.parameters())
            log.info(
                "stage %s: weights are spread over %d processes; this one holds %.0f %%", stage.name, accelerator.num_processes, 100 * own_size / whole_size
            )
        optimizer = make_optimizer(embedder, stage)
        if accelerator.scaler is not None:  # of fp16: every stage begins with a fresh one, whatever ran before it in this process
            accelerator.scaler = torch.amp.GradScaler(accelerator.device.type)
        self.embedder = embedder if self.is_sharded else accelerator.prepare(embedder)
        self.optimizer = accelerator.prepare(optimizer)
        self.ema = {n: p.detach().clone() for n, p in self._trained()} if stage.optim.ema_decay else {}
        self._resume()
        self.curves = Curves(run.out / "tensorboard" / stage.name, self.history, accelerator.is_main_process)

    def run_epochs(self) -> None:
        """Trains from the next step to the stage's end; afterwards the embedder holds the stage's result."""
        n_all = self.stage.optim.n_epochs * self.train_set.n_steps
        done = self.epoch * self.train_set.n_steps + self.step
        bar = tqdm(total=n_all, initial=done, unit="step", desc=self.stage.name, disable=None if self.accelerator.is_local_main_process else True)
        saved = time.time()
        with bar:
            while self.epoch < self.stage.optim.n_epochs:
                self._set_mode()
                began = time.time()
                for inputs, labels, numbers in self.batches.epoch(self.epoch, self.step):
                    loss = self._train_step(inputs, labels, numbers)
                    self.step += 1
                    self.running = [self.running[0] + loss, self.running[1] + 1, self.running[2] + time.time() - began]
                    began = time.time()
                    bar.update()
                    if bar.n % 10 == 0:
                        bar.set_postfix_str(self._status(), refresh=False)
                    if self._is_due(saved):
                        self.save()
                        saved = began = time.time()
                self._end_epoch()
        if self.best:
            log.info("stage %s: keeps epoch %d of %d, mP@5 %.4f", self.stage.name, self.best["epoch"] + 1, self.stage.optim.n_epochs, self.best["mp5"])
            for name, tensor in [*self._trained(), *self._buffers().items()]:
                tensor.data.copy_(like(tensor.data, self.best["weights"][name]))
        for name, parameter in self._trained():
            if self.ema:
                parameter.data.copy_(self.ema[name])

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all. Random states need no saving: every step seeds its own."""
        self._check_weights()
        if not (self.is_sharded or self.accelerator.is_main_process):
            return
        trained, ema = ({n: whole(p.detach()).cpu() for n, p in tensors} for tensors in (self._trained(), self.ema.items()))
        optimizer = optimizer_state(self.embedder, self.optimizer.optimizer) if self.is_sharded else self.optimizer.state_dict()
        if not self.accelerator.is_main_process:
            return
        spent = self.seconds_before + time.time() - self.started
        state = {"key": self.key, "epoch": self.epoch, "step": self.step, "running": self.running, "history": self.history, "seconds": spent}
        state |= {"weights": trained, "optimizer": optimizer, "ema": ema, "buffers": self._buffers(), "best": self.best, "is_sharded": self.is_sharded}
        state |= {"threads": torch.get_num_threads(), "device": self.accelerator.device.type}
        save_state(self.checkpoint, state | self._scaler_state())
        write_metrics(self.checkpoint.with_name("metrics.csv"), self.history)

    def _resume(self) -> None:
        if not self.checkpoint.is_file():
            return
        try:
            state = load_state(self.checkpoint)
        except ValueError as error:
            log.warning("stage %s: training starts anew, since %s", self.stage.name, error)
            return
        if state["key"] != self.key:
            log.warning("stage %s: the checkpoint there was made with other settings or data; training starts anew", self.stage.name)
            return
        if state.get("is_sharded", False) != self.is_sharded:
            raise ValueError(
                f"stage {self.stage.name}: {self.checkpoint} was written by {'several processes' if state['is_sharded'] else 'one process'} with "
                f"has_sharded_weights; start {'several' if not self.is_sharded else 'one'} again, or delete it to train the stage anew"
            )
        for name, parameter in self._trained():
            parameter.data.copy_(like(parameter.data, state["weights"][name]))
        for name, buffer in self._buffers().items():
            buffer.copy_(state["buffers"][name])
        if self.is_sharded:
            set_optimizer_state(self.embedder, self.optimizer.optimizer, state["optimizer"])
        else:
            self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        if self.accelerator.scaler is not None and "scaler" in state:  # not where the stage began on a card with bf16
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.ema = {name: like(self.ema[name], tensor) for name, tensor in state["ema"].items()}
        self.epoch, self.step, self.running, self.history = state["epoch"], state["step"], state["running"], state["history"]
        self.seconds_before = state["seconds"]
        keep_conditions(self.stage.name, state, self.accelerator.device.type)
        log.info("stage %s: resumes at epoch %d, step %d", self.stage.name, self.epoch + 1, self.step)

    def whole_embedder(self) -> Embedder:
        """The embedder with all of its weights in this process; all processes must ask."""
        own: Embedder = self.accelerator.unwrap_model(self.embedder)
        if not self.is_sharded:
            return own
        weights = own.state_dict()
        self.plain.load_state_dict({name: whole(tensor).cpu() for name, tensor in weights.items()})
        return self.plain.to(self.accelerator.device)

    def _is_due(self, saved: float) -> bool:
        """Whether a checkpoint is; the first process' clock counts where all must write it together."""
        is_late = time.time() - saved > CHECKPOINT_S
        return bool(broadcast(torch.tensor([is_late], device=self.accelerator.device))) if self.is_sharded else is_late

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(n, p) for n, p in self.accelerator.unwrap_model(self.embedder).named_parameters() if p.requires_grad]

    def _buffers(self) -> dict[str, Tensor]:
        """The statistics of the neck's batch norm, if it has one."""
        return {name: buffer for name, buffer in self.accelerator.unwrap_model(self.embedder).named_buffers() if name.startswith("neck.")}

    def _scaler_state(self) -> dict[str, Any]:
        """The loss scale, in fp16."""
        return {"scaler": self.accelerator.scaler.state_dict()} if self.accelerator.scaler is not None else {}

    def _set_mode(self) -> None:
        """Trained parts (and the neck's dropout) in training mode, a frozen backbone and a frozen neck's batch norm in eval mode."""
        self.embedder.train()
        if "neck" not in TRAINED_PARTS[self.stage.trains]:
            self.accelerator.unwrap_model(self.embedder).neck.norm.eval()
        if self.stage.is_backbone_frozen:
            self.accelerator.unwrap_model(self.embedder).backbone.eval()

    def _train_step(self, inputs: Tensor, labels: Tensor, numbers: np.ndarray) -> float:
        """One step of the optimizer; returns the loss.

        Raises:
            ValueError: a loss that is not finite, with the step, the images and what to try.
        """
        stage, position = self.stage, self.epoch * self.train_set.n_steps + self.step
        seed = seed_of(self.run.recipe.seed, stage.name, position, self.accelerator.process_index)
        torch.manual_seed(seed)
        lr = lr_at(stage.optim, position, stage.optim.n_epochs * self.train_set.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        value = self._gradient(inputs, labels)
        if not np.isfinite(value):
            ids, path = [str(image_id) for image_id in self.train_set.image_ids[numbers]], self.checkpoint.with_name("not_finite.txt")
            with whole_file(path) as temporary:
                temporary.write_text("\n".join(ids) + "\n", encoding="utf-8")
            raise ValueError(self._not_finite(f"the loss is {value}", f", images {', '.join(ids[:4])}, ... (all {len(ids)}: {path})"))
        if stage.optim.sam_rho:
            torch.manual_seed(seed)  # the same neurons are dropped on the slope
            with climbed([p for _, p in self._trained()], stage.optim.sam_rho):
                self._gradient(inputs, labels)
        if stage.optim.clip_norm:
            self.accelerator.clip_grad_norm_([p for _, p in self._trained()], stage.optim.clip_norm)
        self.optimizer.step()
        for name, parameter in self._trained() if self.ema else []:
            # the average forgets its start: at step t it weighs the last min(t, 1 / (1 - decay)) steps
            self.ema[name].lerp_(parameter.detach(), 1 - min(stage.optim.ema_decay, (1 + position) / (10 + position)))
        return value

    def _not_finite(self, what: str, more: str = "") -> str:
        return (
            f"stage {self.stage.name}: {what} at epoch {self.epoch + 1}, step {self.step}{more}; try a lower stages.{self.stage.name}.optim.lr (now "
            f"{self.stage.optim.lr:g}) or optim.clip_norm=1, with which the stage starts anew; the last checkpoint, if there is one, is kept as it is"
        )

    def _check_weights(self) -> None:
        """A step may spoil the weights though its loss was a number: they become neither a checkpoint nor a result."""
        if not all(bool(own_part(parameter.detach()).isfinite().all()) for _, parameter in self._trained()):
            raise ValueError(self._not_finite("a weight is not finite"))

    def _gradient(self, inputs: Tensor, labels: Tensor) -> float:
        """Leaves the gradient of the batch in the parameters, computed in `cost.n_parts` parts; returns the loss."""
        n, total = self.stage.cost.n_parts, 0.0
        self.optimizer.zero_grad()
        for part, own in zip(inputs.chunk(n), labels.chunk(n), strict=True):
            with self.accelerator.autocast():
                margin = self._margin() if self.class_margins is None else self.class_margins[own]
                loss = self.embedder(part, own, margin) * (len(own) / len(labels))
            total += float(loss.detach())
            self.accelerator.backward(loss)
        return total

    def _end_epoch(self) -> None:
        self._check_weights()
        _, steps, seconds = self.running
        sums = torch.tensor(self.running[:2], device=self.accelerator.device)
        loss, n = self.accelerator.reduce(sums, reduction="sum").tolist()  # every process saw its share of each batch
        row: dict[str, Any] = {
            "epoch": self.epoch,
            "step": (self.epoch + 1) * self.train_set.n_steps,
            "loss": round(loss / max(1, n), 6),
            "margin_rad": self._margin(),
            "lr": lr_at(self.stage.optim, (self.epoch + 1) * self.train_set.n_steps - 1, self.stage.optim.n_epochs * self.train_set.n_steps),
            "images_per_s": round(steps * self.stage.optim.batch_size / max(seconds, 1e-9), 1),
            "seconds": round(seconds, 2),
        }
        self.epoch, self.step, self.running = self.epoch + 1, 0, [0.0, 0.0, 0.0]
        is_last = self.epoch == self.stage.optim.n_epochs  # which is validated anyway when the stage ends
        if (self.stage.validation.every_epochs and self.epoch % self.stage.validation.every_epochs == 0 and not is_last) or (
            self.stage.validation.keeps_best and is_last
        ):
            scores = validated(self.run, self.stage, self.whole_embedder(), self.packed, self.accelerator, is_kept=self.stage.is_backbone_frozen)
            if self.is_sharded:
                self.plain.cpu()  # the card has no room for it while it trains
            row |= {"val_mp5": round(scores["mp5"], 6), "val_r1": round(scores["r1"], 6)}
            if self.stage.validation.keeps_best and scores["mp5"] > self.best.get("mp5", -1.0):
                weights = {name: whole(tensor.detach()).cpu().clone() for name, tensor in [*self._trained(), *self._buffers().items()]}
                self.best = {"epoch": self.epoch - 1, "mp5": scores["mp5"], "weights": weights}
        self.history.append(row)
        self.curves.add(row)

    def _margin(self) -> float:
        """The margin of the epoch, or the mean over the classes."""
        if self.class_margins is not None:
            return round(float(self.class_margins.mean()), 6)
        assert not isinstance(self.margin, ClassMargin)
        return margin_at(self.margin, self.epoch) if isinstance(self.margin, GrowingMargin) else self.margin

    def _status(self) -> str:
        total, steps, seconds = self.running
        rate = steps * self.stage.optim.batch_size / max(seconds, 1e-9)
        lr = self.optimizer.param_groups[0]["lr"]
        return f"loss {total / max(1, steps):.3f} margin {self._margin():.2f} lr {lr:.1e} {rate:.0f} img/s {peak_memory_gb():.1f} GB"
