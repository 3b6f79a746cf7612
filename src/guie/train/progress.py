"""What a stage's progress bar shows."""

from __future__ import annotations

from typing import Any

from guie.run import peak_memory_gb
from guie.settings.stage import Stage
from guie.train.model import Model
from guie.train.state import TrainState


def status(state: TrainState, stage: Stage, model: Model, optimizer: Any) -> str:
    """Loss, the objective's numbers, learning rate, speed and memory of the epoch so far."""
    curves = model.objective.curves(state.epoch)
    own = "".join(f" {name} {value:.2f}" for name, value in curves.items())
    rate = state.images_per_s(stage.optim.batch_size)
    lr = optimizer.param_groups[0]["lr"]
    return f"loss {state.mean_loss():.3f}{own} lr {lr:.1e} {rate:.0f} img/s {peak_memory_gb():.1f} GB"
