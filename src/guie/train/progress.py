"""What a stage's progress bar shows beside its steps."""

from __future__ import annotations

from guie.settings.stage import Stage
from guie.train.state import TrainState


def status(state: TrainState, stage: Stage) -> str:
    """Loss and speed of the epoch so far, of the same length at every step. The other numbers are in metrics.csv."""
    return f"loss {state.mean_loss():6.3f} {state.images_per_s(stage.optim.batch_size):5.0f} img/s"
