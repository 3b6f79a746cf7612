"""Two processes of a stage: an error of one ends both, and what follows from scores is process 0's for both."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from changing import changed
from small_model import DIM, LABELS, small_model
from test_trainer import SMALL, SmallBatches, small_trainer
from torch import Tensor

from guie.model.embedder import Embedder
from guie.settings.objective import Pads, Softmax
from guie.train.gradient import StepInputs
from guie.train.objectives.base import Look
from guie.train.sharding import ends_everywhere

POLICY = changed(SMALL, objective=Pads(every_steps=1, held_out_share=0.3))


class Unlike:
    """Embeddings that differ between processes, as kernels of cards may make them."""

    labels = LABELS.numpy()

    def __init__(self, rank: int) -> None:
        self.rank, self.n_asked = rank, 0

    def embeddings(self, items: np.ndarray) -> Tensor:
        self.n_asked += 1
        return torch.randn(len(items), DIM, generator=torch.Generator().manual_seed(10 * self.n_asked + self.rank))


class UnlikeBatches(SmallBatches):
    def epoch(self, epoch: int, start: int, groups: object = None) -> Iterator[StepInputs]:
        for given in super().epoch(epoch, start, groups):
            yield replace(given, inputs=given.inputs[int(os.environ["RANK"]) :: 2])

    def look(self, model: Embedder) -> Look:
        return cast(Look, Unlike(int(os.environ["RANK"])))


def one_of_two(rank: int, port: int, folder: str) -> None:
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", ACCELERATE_USE_CPU="true", **address)
    torch.set_num_threads(1)
    own = Path(folder) / str(rank)
    own.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("test_trainer.SmallBatches", UnlikeBatches)
        trainer = small_trainer(own, POLICY, small_model(POLICY))
        trainer.run()
    state = {name: tensor.clone() for name, tensor in trainer.model.objective.state_dict().items()}
    stage = changed(SMALL, objective=Softmax())
    model = small_model(stage)

    def begin_epoch(epoch: int, look: Look) -> None:
        if rank:
            raise ValueError("the memory of process 1 is full")

    model.objective.begin_epoch = begin_epoch  # type: ignore[method-assign,assignment]
    try:
        small_trainer(own, stage, model)
        told = "nothing"
    except ValueError as error:
        told = str(error)
    torch.save((state, told), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Tensor], str]]:
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(one_of_two, args=(port, str(folder)), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.full
def test_policy_that_saw_other_scores_is_that_of_process_0(ends: list[tuple[dict[str, Tensor], str]]) -> None:
    (first, _), (second, _) = ends
    assert int(first["n_turns"]) == 8 and first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.full
def test_error_of_one_process_at_the_beginning_of_an_epoch_ends_both(ends: list[tuple[dict[str, Tensor], str]]) -> None:
    assert [told for _, told in ends] == [
        "another process of this run has stopped; its own output says why", "the memory of process 1 is full",
    ]  # fmt: skip


def test_buffers_are_taken_from_process_0_after_each_turn_of_the_policy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process that is told what a process 0 would have: the test above has two."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr("test_trainer.SmallBatches.look", lambda self, model: Unlike(0))
    stage = changed(POLICY, objective__every_steps=3)
    trainer, steps = small_trainer(tmp_path, stage, small_model(stage)), []
    monkeypatch.setattr(
        "guie.train.objective_turns.share",
        lambda tensors, _: steps.append((trainer.state.step, {id(tensor) for tensor in tensors})),
    )
    trainer.run()
    assert [step for step, _ in steps] == [2, 1]  # the third and the sixth of eight steps, four an epoch
    assert all(tensors == {id(buffer) for buffer in trainer.model.objective.buffers()} for _, tensors in steps)


def test_process_without_an_error_ends_where_another_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr("guie.train.sharding.is_so_for_all", lambda is_so, _: asked.append(is_so))
    accelerator = cast(Any, SimpleNamespace(num_processes=2))
    with pytest.raises(ValueError, match=r"^another process of this run has stopped"), ends_everywhere(accelerator):
        pass
    with pytest.raises(KeyError, match="own"), ends_everywhere(accelerator):
        raise KeyError("own")
    assert asked == [True, False]  # both tell the others


def test_error_of_a_single_process_is_its_own() -> None:
    accelerator = cast(Any, SimpleNamespace(num_processes=1))
    with pytest.raises(KeyError, match="own"), ends_everywhere(accelerator):
        raise KeyError("own")
    with ends_everywhere(accelerator):
        pass
