"""The gradient of one step, cut at the backbone's feature.

The head (neck and objective) sees the whole batch, once, on every process. Each process then sends its rows of d loss /
d feature back through its own backbone, part by part. So the gradient is the same however many parts and processes
compute it, also with dropout and batch norm in the neck, and for losses that compare images with each other. Between
processes travel the features (4 MB of 1,024 images of 1,024 numbers) and, once a step, the backbone's gradient. The
head's gradient travels, too, where an additive objective is computed in parts, and on cards, where process 0's is taken
by all.

Source: Gao et al., Scaling deep contrastive learning batch size under memory limited setup, RepL4NLP 2021 (gradient
caching).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from guie.seeds import seed_of
from guie.train.exchange import share_gradient_of_head, sum_gradients
from guie.train.model import Model
from guie.train.objectives.base import Batch
from guie.train.sharding import is_sharded, set_gradient_sync


@dataclass(frozen=True)
class StepInputs:
    """What one step is computed from. Processes share the rows of a batch: process r has the rows r, r + n_processes,
    ...

    Attributes:
        inputs: Normalised pixels of this process' rows, float32 [n / n_processes, 3, px, px]; or what the neck takes of
            all rows, float32 [n, feature_dim].
        labels: int64 [n], of all rows, as the rest.
        items: int64 [n], rows of the training set.
        views: int64 [n], which cached view each is.
        are_pixels: Whether `inputs` are pixels: the backbone takes part in the step.
    """

    inputs: Tensor
    labels: Tensor
    items: Tensor
    views: Tensor
    are_pixels: bool


@dataclass(frozen=True)
class Position:
    """Where in a stage a step is.

    Attributes:
        epoch: Counted from 0.
        step: Of the stage, counted from 0.
        seed: Of its random numbers.
        is_counted: Whether it is counted in the curves.
    """

    epoch: int
    step: int
    seed: int
    is_counted: bool = True


def gradient(
    model: Model, given: StepInputs, n_parts: int, position: Position, accelerator: Accelerator
) -> tuple[Batch | None, dict[str, float]]:
    """Computes the gradient of the whole batch and stores it in every parameter that trains; it includes the terms of
    `Model.retained`.

    Args:
        model: With its modes set; gradients must be None or zero.
        given: The step's inputs.
        n_parts: Parts in which the backbone computes.
        position: Epoch, step and seed.
        accelerator: Of all processes; in fp16 gradients are left scaled.

    Returns:
        The whole batch without its graph, for `Objective.after_step`, and the loss terms. The batch may be None for an
        additive objective where it is not counted.
    """
    if not given.are_pixels:
        return _head(model, given.inputs, given, position, accelerator)
    batch, terms = _of_pixels(model, given, n_parts, position, accelerator)
    pulled = model.retained.pull(dict(model.trained()), accelerator) if model.retained is not None else {}
    return batch, terms | pulled


def _of_pixels(
    model: Model, given: StepInputs, n_parts: int, position: Position, accelerator: Accelerator
) -> tuple[Batch | None, dict[str, float]]:
    """See `gradient`, of images whose backbone takes part, without the pull to its start."""
    parts = given.inputs.chunk(n_parts)
    sees_all = model.retained is None or model.retained.is_generic is None  # else the mean is over part of the rows
    if n_parts > 1 and sees_all and model.objective.is_additive and isinstance(model.neck.norm, nn.Identity):
        return _by_parts(model, parts, given, position, accelerator)
    with torch.set_grad_enabled(n_parts == 1):
        own = torch.cat([_features(model, part, i, position, accelerator) for i, part in enumerate(parts)])
    features = _gathered(own.detach(), accelerator).requires_grad_()
    batch, terms = _head(model, features, given, position, accelerator)
    assert features.grad is not None
    back = features.grad[accelerator.process_index :: accelerator.num_processes]
    if n_parts == 1:
        _backward(model, own, back, True, accelerator)
    else:
        _send_back(model, parts, back, position, accelerator)
    if not is_sharded(model.backbone):
        sum_gradients(model.backbone.parameters(), accelerator)
    return batch, terms


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds the generators of the CPU and of the current CUDA device, as `torch.manual_seed` does.

    torch.manual_seed also formats a stack trace for each kind of device that is not in use, a quarter of a millisecond
    or more, which is felt where a step takes three (torch 2.14, `torch.cuda._lazy_call`).
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def _features(model: Model, pixels: Tensor, part: int, position: Position, accelerator: Accelerator) -> Tensor:
    """The backbone's features of a part, in float32 at least; its noise (drop-path) is the same whenever the part is
    computed."""
    seed_generators(seed_of(position.seed, "noise", accelerator.process_index, part), accelerator.device)
    with accelerator.autocast():
        features: Tensor = model.backbone(pixels)
    return wide(features)


def wide(tensor: Tensor) -> Tensor:
    """float32 at least."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _gathered(own: Tensor, accelerator: Accelerator) -> Tensor:
    """The rows of all processes in the order of the batch."""
    n = accelerator.num_processes
    if n == 1:
        return own
    by_process: Tensor = accelerator.gather(own)
    return by_process.unflatten(0, (n, -1)).transpose(0, 1).flatten(0, 1).contiguous()


def _head(
    model: Model, features: Tensor, given: StepInputs, position: Position, accelerator: Accelerator
) -> tuple[Batch, dict[str, float]]:
    """Neck and objective over the whole batch, forward and backward."""
    seed_generators(position.seed, accelerator.device)  # the same dropout on every process
    with accelerator.autocast():
        embeddings = wide(model.neck(features))
    batch = Batch(features, embeddings, given.labels, given.items, given.views, *_of(position))
    terms = _terms(model, batch)
    accelerator.backward(_total(terms))
    if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
        share_gradient_of_head(model, accelerator)
    return batch.detached(), {name: float(term.detach()) for name, term in terms.items()}


def _by_parts(
    model: Model, parts: tuple[Tensor, ...], given: StepInputs, position: Position, accelerator: Accelerator
) -> tuple[Batch | None, dict[str, float]]:
    """Forward and backward of an additive objective, part by part, without a first pass.

    Each part lies among zeros in a batch of full size, so that its dropout is that of the unsplit batch. The processes
    exchange features only where the batch is counted: an additive objective asks for them in no other step.
    """
    n, world = len(given.labels), accelerator.num_processes
    all_own = torch.arange(accelerator.process_index, n, world, device=given.labels.device)
    sums = torch.zeros(1, device=given.labels.device)  # of each term
    seen: list[Batch] = []
    for i, (part, rows) in enumerate(zip(parts, all_own.chunk(len(parts)), strict=True)):
        own = _features(model, part, i, position, accelerator)
        batch, terms, back = _head_of_part(model, own, rows, given, position, accelerator)
        sums = sums + _values(terms)
        _backward(model, own, back, i == len(parts) - 1, accelerator)
        seen.append(batch)
    sum_gradients((p for module in model.head for p in module.parameters()), accelerator)
    if not is_sharded(model.backbone):
        sum_gradients(model.backbone.parameters(), accelerator)
    losses = accelerator.reduce(sums, reduction="sum").tolist()
    whole = _whole(seen, given, position, accelerator) if position.is_counted else None
    return whole, dict(zip(terms, losses, strict=True))


def _head_of_part(
    model: Model, own: Tensor, rows: Tensor, given: StepInputs, position: Position, accelerator: Accelerator
) -> tuple[Batch, dict[str, Tensor], Tensor]:
    """Neck and objective over some rows, forward and backward.

    Returns:
        The rows without their graph, their share of the batch's loss terms, and the gradient by their features.
    """
    cut = own.detach().requires_grad_()
    seed_generators(position.seed, accelerator.device)
    batch = _part_of_batch(model, cut, rows, given, position, accelerator)
    share = len(rows) / len(given.labels)
    terms = {name: share * term for name, term in _terms(model, batch).items()}
    accelerator.backward(_total(terms))
    assert cut.grad is not None
    return batch.detached(), terms, cut.grad


def _whole(seen: list[Batch], given: StepInputs, position: Position, accelerator: Accelerator) -> Batch:
    """The batch of all processes, of the parts that this one has seen."""
    features, embeddings = (
        _gathered(torch.cat(own), accelerator)
        for own in ([part.features for part in seen], [part.embeddings for part in seen])
    )
    return Batch(features, embeddings, given.labels, given.items, given.views, *_of(position))


def _part_of_batch(
    model: Model, cut: Tensor, rows: Tensor, given: StepInputs, position: Position, accelerator: Accelerator
) -> Batch:
    """The batch of some rows alone; their embeddings are those of a batch of full size."""
    among_zeros = cut.new_zeros(len(given.labels), cut.shape[1]).index_copy(0, rows, cut)
    with accelerator.autocast():
        embeddings = wide(model.neck(among_zeros)[rows])
    labels, items, views = given.labels[rows], given.items[rows], given.views[rows]
    return Batch(cut, embeddings, labels, items, views, *_of(position))


def _of(position: Position) -> tuple[int, int, int, bool]:
    """What a batch knows of its position: epoch, step, seed, and whether it is counted."""
    return position.epoch, position.step, position.seed, position.is_counted


def _send_back(
    model: Model, parts: tuple[Tensor, ...], back: Tensor, position: Position, accelerator: Accelerator
) -> None:
    """Computes the features of each part again, now with their graph, and sends their gradient through the backbone."""
    for i, (part, share) in enumerate(zip(parts, back.chunk(len(parts)), strict=True)):
        own = _features(model, part, i, position, accelerator)
        _backward(model, own, share, i == len(parts) - 1, accelerator)


def _backward(model: Model, own: Tensor, share: Tensor, is_last: bool, accelerator: Accelerator) -> None:
    """Backward through the backbone. Sharded weights move their gradient with the last part alone, as a mean over the
    processes."""
    if is_sharded(model.backbone):
        set_gradient_sync(model.backbone, is_last)
        share = share * accelerator.num_processes
    own.backward(share)


def _terms(model: Model, batch: Batch) -> dict[str, Tensor]:
    """The objective's terms and those that hold the backbone, in the precision of the embeddings: half precision would
    leave three digits of a cosine."""
    with torch.autocast(batch.embeddings.device.type, enabled=False):
        if model.retained is not None:
            return model.retained.terms(batch, model.objective)
        terms: dict[str, Tensor] = model.objective(batch)
    return terms


def _total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def _values(terms: dict[str, Tensor]) -> Tensor:
    """float32 [n_terms], without their graph."""
    return torch.stack([term.detach().float() for term in terms.values()])
