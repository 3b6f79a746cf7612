"""The state of a stage's training beside weights and optimizer, and the checkpoint from which the stage resumes
exactly."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from guie.files import load_state, save_state
from guie.run import keep_conditions
from guie.train.curves import write_curves
from guie.train.model import Model
from guie.train.parameters import load_moments
from guie.train.sharding import full_tensor, is_sharded, like, optimizer_state, set_optimizer_state

N_POINTS = 20  # of a stage's curve, however many epochs it has
log = logging.getLogger(__name__)


@dataclass
class TrainState:
    """The progress of a stage: everything but its weights and its optimizer that a resumed training needs.

    Attributes:
        epoch: Of the next step, counted from 0.
        step: The next step of that epoch, counted from 0.
        running: Of this epoch so far: sum of losses, steps, seconds.
        terms: Of this epoch so far: the sum of each term of the loss.
        history: A row of metrics.csv for each finished epoch.
        points: A row of curve.csv for each twentieth of the stage.
        recent: Since the last of these points: sum of losses, steps.
        seconds: That the stage has taken, earlier starts included.
        best: The best validated epoch so far: epoch, mp5, weights; empty without `validation.keeps_best`.
        ema: The moving average of the trained weights, by name; empty without `optim.ema_decay`.
    """

    epoch: int = 0
    step: int = 0
    running: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    terms: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, float]] = field(default_factory=list)
    recent: list[float] = field(default_factory=lambda: [0.0, 0.0])
    seconds: float = 0.0
    best: dict[str, Any] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(default_factory=dict)

    def add(self, terms: dict[str, float], seconds: float) -> None:
        """Counts a step of this epoch."""
        total, n, before = self.running
        self.step += 1
        self.running = [total + sum(terms.values()), n + 1, before + seconds]
        for name, value in terms.items():
            self.terms[name] = self.terms.get(name, 0.0) + value

    def note(self, done: int, n_steps: int, loss: float, lr: float) -> None:
        """Counts a step for the curve of the stage, which has a point for each twentieth of the stage's steps.

        Args:
            done: Steps of the stage so far, this one included.
            n_steps: Of the whole stage.
            loss: Of this step; a point has the mean of all steps since the point before.
            lr: Of this step.
        """
        total, n = self.recent
        self.recent = [total + loss, n + 1]
        if done * N_POINTS // n_steps > (done - 1) * N_POINTS // n_steps:
            self.points.append({"step": done, "loss": round((total + loss) / (n + 1), 6), "lr": lr})
            self.recent = [0.0, 0.0]

    def end_epoch(self) -> None:
        """Goes on to the first step of the next epoch."""
        self.epoch += 1
        self.step = 0
        self.running = [0.0, 0.0, 0.0]
        self.terms = {}

    def mean_terms(self) -> dict[str, float]:
        """Of this epoch so far, as columns `loss_<term>`; empty where the loss is a single term."""
        n = max(1.0, self.running[1])
        return {f"loss_{name}": round(total / n, 6) for name, total in self.terms.items() if len(self.terms) > 1}

    def average(self, model: Model, ema_decay: float, step: int) -> None:
        """Takes the model's weights into the moving average, if there is one.

        The decay of step t is min(ema_decay, (1 + t) / (10 + t)). So the average forgets its start: it weighs about the
        last (10 + t) / 9 steps, and at most the last 1 / (1 - ema_decay).
        """
        decay = min(ema_decay, (1 + step) / (10 + step))
        for name, average in self.ema.items():
            average.lerp_(model.get_parameter(name).detach(), 1 - decay)

    def mean_loss(self) -> float:
        """Of this epoch so far."""
        return self.running[0] / max(1.0, self.running[1])

    def images_per_s(self, batch_size: int) -> float:
        """In this epoch so far."""
        return self.running[1] * batch_size / max(self.running[2], 1e-9)


@dataclass(frozen=True)
class Checkpoint:
    """The file from which a stage goes on. Random states need no saving: every step seeds its own.

    Attributes:
        path: `last.pt` in the stage's folder.
        key: What the stage is trained from: settings, parent, images. Another key's checkpoint is not used.
        stage: The stage's name, for messages.
        accelerator: Of all processes.
    """

    path: Path
    key: str
    stage: str
    accelerator: Accelerator

    def is_due(self, saved: float, every_s: float, model: Model) -> bool:
        """Whether more than `every_s` seconds are over since `saved`, as `time.time()` gives it.

        With sharded weights all processes write together, so process 0 decides for all.
        """
        is_late = time.time() - saved > every_s
        if not is_sharded(model.backbone):
            return is_late
        return bool(broadcast(torch.tensor([is_late], device=self.accelerator.device)))

    def save(self, state: TrainState, model: Model, optimizer: Any) -> None:
        """Writes everything, whole or not at all; with sharded weights all processes must call it.

        Args:
            state: Where the stage is.
            model: The weights and buffers that the stage may change are stored.
            optimizer: accelerate's wrapper of the stage's optimizer.
        """
        spread = is_sharded(model.backbone)
        if not (spread or self.accelerator.is_main_process):
            return
        weights = {name: full_tensor(parameter.detach()).cpu() for name, parameter in model.changing().items()}
        ema = {name: full_tensor(tensor).cpu() for name, tensor in state.ema.items()}
        moments = optimizer_state(model, optimizer.optimizer) if spread else optimizer.state_dict()
        if not self.accelerator.is_main_process:
            return
        stored = {
            "key": self.key,
            "epoch": state.epoch,
            "step": state.step,
            "running": state.running,
            "terms": state.terms,
            "history": state.history,
            "points": state.points,
            "recent": state.recent,
            "seconds": state.seconds,
            "best": state.best,
            "weights": weights,
            "buffers": model.changing_buffers(),
            "ema": ema,
            "optimizer": moments,
            "is_sharded": spread,
            "threads": torch.get_num_threads(),
            "device": self.accelerator.device.type,
        }
        if self.accelerator.scaler is not None:
            stored["scaler"] = self.accelerator.scaler.state_dict()
        save_state(self.path, stored)
        write_curves(self.path.parent, state.history, state.points)

    def load(self, state: TrainState, model: Model, optimizer: Any) -> bool:
        """Goes back to the checkpoint, if there is one of the same key; returns whether.

        Raises:
            ValueError: it was written with sharded weights and the weights are whole now, or the other way round.
        """
        stored = self._stored()
        if stored is None:
            return False
        spread = is_sharded(model.backbone)
        if stored.get("is_sharded", False) != spread:
            raise ValueError(
                f"stage {self.stage}: {self.path} was written by {'one process' if spread else 'several processes'} "
                "with "
                f"has_sharded_weights; start {'one' if spread else 'several'} again, or delete it to train the stage "
                "anew"
            )
        with torch.no_grad():
            for name, parameter in model.changing().items():
                parameter.copy_(like(parameter, stored["weights"][name]))
            for name, buffer in model.changing_buffers().items():
                buffer.copy_(stored["buffers"][name])
        if spread:
            set_optimizer_state(model, optimizer.optimizer, stored["optimizer"])
        else:
            load_moments(optimizer, stored["optimizer"])
        if self.accelerator.scaler is not None and "scaler" in stored:  # not where the stage began on a card with bf16
            self.accelerator.scaler.load_state_dict(stored["scaler"])
        for name in ("epoch", "step", "running", "terms", "history", "points", "recent", "seconds", "best"):
            if name in stored:  # an older checkpoint has no points
                setattr(state, name, stored[name])
        trained = model.trained()
        state.ema = {name: like(trained[name].detach(), tensor) for name, tensor in stored["ema"].items()}
        keep_conditions(self.stage, stored, self.accelerator.device.type)
        log.info("stage %s: resumes at epoch %d, step %d", self.stage, state.epoch + 1, state.step)
        return True

    def _stored(self) -> dict[str, Any] | None:
        """What the file holds, or None where there is none that can be used."""
        if not self.path.is_file():
            return None
        try:
            stored = load_state(self.path)
        except ValueError as error:
            log.warning("stage %s: training starts anew, since %s", self.stage, error)
            return None
        if stored["key"] != self.key:
            log.warning(
                "stage %s: the checkpoint there was made with other settings or data; training starts anew", self.stage
            )
            return None
        return stored
