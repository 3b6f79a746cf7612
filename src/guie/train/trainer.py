"""The one trainer: the epochs and steps of any stage, resumable at any moment."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from accelerate import Accelerator

from guie.seeds import seed_of
from guie.settings.stage import Stage
from guie.shown import progress
from guie.train.batches import Batches
from guie.train.curves import Curves
from guie.train.finite import check_loss, check_weights
from guie.train.gradient import Position, StepInputs, gradient
from guie.train.model import Model
from guie.train.objective_turns import after_step, begin_epoch
from guie.train.objectives.base import Batch
from guie.train.objectives.step_means import is_counted
from guie.train.parameters import clip, make_optimizer, sam_ascent
from guie.train.progress import status
from guie.train.schedule import lr_at
from guie.train.sharding import full_tensor, like, of_process_0
from guie.train.state import Checkpoint, TrainState
from guie.train.train_set import TrainSet

log = logging.getLogger(__name__)
CHECKPOINT_EVERY_S = 60.0
# Told to `notice`, in the order in which they come: a test may end the process there.
MOMENTS = ("after SAM's second gradient", "step", "checkpoint", "validated", "best kept", "epoch end")


class Trainer:
    """The epochs of one stage.

    Attributes:
        state: Where the stage is.
    """

    def __init__(
        self,
        stage: Stage,
        seed: int,
        model: Model,
        batches: Batches,
        train_set: TrainSet,
        checkpoint: Checkpoint,
        validate: Callable[[], dict[str, float]],
        curves: Curves,
        notice: Callable[[str], None] = lambda moment: None,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
    ) -> None:
        """Makes the optimizer and goes back to the checkpoint, if there is one.

        Args:
            stage: What is trained, and how.
            seed: The recipe's.
            model: On its device, with the right parts open.
            batches: Gives the steps' inputs.
            train_set: Labels and length of an epoch.
            checkpoint: Where the stage is saved.
            validate: Scores of the model as it is now, mp5 and r1.
            curves: Gets each epoch's row of metrics.csv.
            notice: Called with each of `MOMENTS` as it comes.
            checkpoint_every_s: Seconds between checkpoints.
        """
        self.stage, self.seed, self.model = stage, seed, model
        self.batches, self.train_set, self.checkpoint = batches, train_set, checkpoint
        self.validate, self.notice, self.checkpoint_every_s = validate, notice, checkpoint_every_s
        self.accelerator: Accelerator = checkpoint.accelerator
        self.n_steps = stage.optim.n_epochs * train_set.n_steps
        if self.accelerator.scaler is not None:  # of fp16: a fresh one, whatever ran before in this process
            self.accelerator.scaler = torch.amp.GradScaler(self.accelerator.device.type)
        self.optimizer: Any = self.accelerator.prepare(make_optimizer(model, stage))
        self.state = TrainState()
        self.look = batches.look(model)
        is_resumed = checkpoint.load(self.state, model, self.optimizer)
        if not is_resumed:
            self._begin_epoch(0)
            if stage.optim.ema_decay:
                self.state.ema = {name: p.detach().clone() for name, p in model.trained().items()}
        self.started = time.time() - self.state.seconds
        self.curves = curves
        curves.begin(self.state.history, checkpoint.key, is_resumed)

    def run(self) -> None:
        """Trains from the next step to the stage's end; afterwards the model holds the stage's result."""
        state = self.state
        done = state.epoch * self.train_set.n_steps + state.step
        hidden = None if self.accelerator.is_local_main_process else True  # None: where the output is no terminal
        saved = time.time()
        with progress(total=self.n_steps, initial=done, desc=self.stage.name, disable=hidden) as bar:
            while state.epoch < self.stage.optim.n_epochs:
                if state.epoch and not state.step:
                    self._begin_epoch(state.epoch)
                self.model.set_mode(self.stage)
                began = time.time()
                for given in self.batches.epoch(state.epoch, state.step, self.model.objective.groups()):
                    terms = self._step(given)
                    state.add(terms, time.time() - began)
                    began = time.time()
                    bar.update()
                    if (bar.n % 10 == 0 or bar.n == done + 1) and not bar.disable:
                        bar.set_postfix_str(status(state, self.stage), refresh=False)
                    self.notice("step")
                    if self.checkpoint.is_due(saved, self.checkpoint_every_s, self.model):
                        self.save()
                        saved = began = time.time()
                self._end_epoch()
        self._take_result()

    def _begin_epoch(self, epoch: int) -> None:
        seed = seed_of(self.seed, self.stage.name, epoch, "begin epoch")
        begin_epoch(self.model, self.stage.start, epoch, self.look, seed, self.accelerator)

    def save(self) -> None:
        """Writes the checkpoint."""
        check_weights(self.model, self.stage, self.state, self.accelerator)
        self.state.seconds = time.time() - self.started
        self.checkpoint.save(self.state, self.model, self.optimizer)
        self.notice("checkpoint")

    def _step(self, given: StepInputs) -> dict[str, float]:
        """One step of the optimizer; returns the terms of the loss."""
        optim, state = self.stage.optim, self.state
        position = state.epoch * self.train_set.n_steps + state.step
        lr = lr_at(optim, position, self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        seed = seed_of(self.seed, self.stage.name, position, 0)
        place = Position(state.epoch, position, seed, is_counted(state.step, self.train_set.n_steps))
        batch, terms = self._gradient(given, place)
        check_loss(terms, self.stage, state, given.items, self.train_set, self.checkpoint.path.parent)
        if optim.sam_rho:
            with sam_ascent(list(self.model.trained().values()), optim.sam_rho):
                self._gradient(given, place)  # the same neurons are dropped there
            self.notice("after SAM's second gradient")
        if optim.clip_norm:
            self.accelerator.unscale_gradients(self.optimizer)
            clip(list(self.model.trained().values()), optim.clip_norm)
        self.optimizer.step()
        state.average(self.model, optim.ema_decay, position)
        state.note(position + 1, self.n_steps, sum(terms.values()), lr)
        after_step(self.model, batch, self.look, place, self.accelerator)
        return terms

    def _gradient(self, given: StepInputs, place: Position) -> tuple[Batch | None, dict[str, float]]:
        self.optimizer.zero_grad()
        return gradient(self.model, given, self.stage.cost.n_parts, place, self.accelerator)

    def _end_epoch(self) -> None:
        """A row of metrics.csv, and the validation where one is due."""
        check_weights(self.model, self.stage, self.state, self.accelerator)
        state, validation = self.state, self.stage.validation
        done = (state.epoch + 1) * self.train_set.n_steps
        row: dict[str, Any] = {
            "epoch": state.epoch,
            "step": done,
            "loss": round(state.mean_loss(), 6),
            **state.mean_terms(),
            **self.model.objective.curves(state.epoch),
            "lr": lr_at(self.stage.optim, done - 1, self.n_steps),
            "images_per_s": round(state.images_per_s(self.stage.optim.batch_size), 1),
            "seconds": round(state.running[2], 2),
        }
        state.end_epoch()
        is_last = state.epoch == self.stage.optim.n_epochs  # which is validated anyway when the stage ends
        is_due = validation.every_epochs and state.epoch % validation.every_epochs == 0 and not is_last
        if is_due or (validation.keeps_best and is_last):
            row |= self._validated()
        state.history.append(row)
        self.curves.add(row)
        self.notice("epoch end")

    def _validated(self) -> dict[str, float]:
        scores = {name: of_process_0(value, self.accelerator) for name, value in self.validate().items()}
        self.notice("validated")
        if self.stage.validation.keeps_best and scores["mp5"] > self.state.best.get("mp5", -1.0):
            tensors = self.model.trained() | self.model.neck_buffers()
            weights = {name: full_tensor(tensor.detach()).cpu().clone() for name, tensor in tensors.items()}
            self.state.best = {"epoch": self.state.epoch - 1, "mp5": scores["mp5"], "weights": weights}
            self.notice("best kept")
        return {"val_mp5": round(scores["mp5"], 6), "val_r1": round(scores["r1"], 6)}

    @torch.no_grad()
    def _take_result(self) -> None:
        """The best epoch's weights, or the moving average, become the model's."""
        best = self.state.best
        if best:
            text = "stage %s: keeps epoch %d of %d, mP@5 %.4f"
            log.info(text, self.stage.name, best["epoch"] + 1, self.stage.optim.n_epochs, best["mp5"])
        tensors = self.model.trained() | self.model.neck_buffers()
        for name, value in (best.get("weights") or self.state.ema).items():
            tensors[name].copy_(like(tensors[name].detach(), value))
