"""Stops a stage whose loss or weights are not finite. The error says what to try; for a loss it names the batch's
images."""

from __future__ import annotations

import math
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor

from guie.files import whole_file
from guie.settings.stage import Stage
from guie.train.model import Model
from guie.train.sharding import is_sharded, is_so_for_all, own_part
from guie.train.state import TrainState
from guie.train.train_set import TrainSet


def check_loss(
    terms: dict[str, float], stage: Stage, state: TrainState, items: Tensor, train_set: TrainSet, folder: Path
) -> None:
    """Raises ValueError where a term of the loss is not finite; writes the ids of the batch's images to
    `not_finite.txt`."""
    wrong = {name: value for name, value in terms.items() if not math.isfinite(value)}
    if not wrong:
        return
    list_path = folder / "not_finite.txt"
    image_ids = [str(image_id) for image_id in train_set.image_ids[items.cpu().numpy()]]
    with whole_file(list_path) as temporary:
        temporary.write_text("\n".join(image_ids) + "\n", encoding="utf-8")
    images = f", images {', '.join(image_ids[:4])}, ... (all {len(image_ids)}: {list_path})"
    told = " and ".join(f"the {name} is {value}" for name, value in wrong.items()) if len(terms) > 1 else ""
    raise ValueError(_told(told or f"the loss is {sum(terms.values())}", stage, state, images))


def check_weights(model: Model, stage: Stage, state: TrainState, accelerator: Accelerator) -> None:
    """Raises ValueError where a weight or a statistic is not finite: it must become neither a checkpoint nor a
    result."""
    tensors = [*model.changing().values(), *model.changing_buffers().values()]
    is_finite = all(bool(own_part(tensor.detach()).isfinite().all()) for tensor in tensors)
    if is_sharded(model.backbone):  # a weight is in one process, and all must stop
        is_finite = is_so_for_all(is_finite, accelerator)
    if not is_finite:
        raise ValueError(_told("a weight is not finite", stage, state))


def _told(what: str, stage: Stage, state: TrainState, more: str = "") -> str:
    at = f"stages.{stage.name}.optim"
    return (
        f"stage {stage.name}: {what} at epoch {state.epoch + 1}, step {state.step}{more}; try a lower {at}.lr (now "
        f"{stage.optim.lr:g}) or {at}.clip_norm=1, with which the stage starts anew; the last checkpoint, if there is "
        "one, is kept "
        "as it is"
    )
