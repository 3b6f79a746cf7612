"""Draws of columns: how often each comes, what is never drawn, and that a step repeats them."""

import math
from dataclasses import replace

import pytest
import torch
from hand_batch import batch_of

from guie.train.objectives.draws import draw, draw_equally, generator_of, triplet_of_each


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_columns_come_as_often_as_their_weights_say() -> None:
    log_weights = torch.tensor([[1.0, 9.0, 3.0, 6.0], [1.0, 1.0, 1.0, 1.0]]).log()
    is_allowed = torch.tensor([[True, False, True, True], [True, True, False, True]])
    found = draw(log_weights, is_allowed, generator(), 20_000)
    assert found.shape == (2, 20_000)
    for row, expected in enumerate(([0.1, 0, 0.3, 0.6], [1 / 3, 1 / 3, 0, 1 / 3])):
        shares = torch.bincount(found[row], minlength=4) / 20_000
        assert shares.tolist() == pytest.approx(expected, abs=0.015)
    equally = draw_equally(is_allowed, generator(), 20_000)
    for row, columns in enumerate(([0, 2, 3], [0, 1, 3])):
        shares = torch.bincount(equally[row], minlength=4) / 20_000
        assert shares[columns].tolist() == pytest.approx([1 / 3] * 3, abs=0.015) and shares.sum() == 1


def test_a_column_that_is_not_allowed_is_never_drawn_nor_one_where_none_is() -> None:
    """Allowed columns stand first, last, and between many that are not."""
    is_allowed = torch.rand(300, 41, generator=generator(1)) < 0.05
    is_allowed[0], is_allowed[1, 1:], is_allowed[2, :-1] = False, False, False
    is_allowed[1, 0] = is_allowed[2, -1] = True
    has_some = is_allowed.any(dim=1)
    log_weights = 30 * torch.randn(300, 41, generator=generator(2))
    for found in (draw(log_weights, is_allowed, generator(3), 50), draw_equally(is_allowed, generator(3), 50)):
        assert ((found >= 0) == has_some[:, None]).all()
        assert is_allowed.gather(1, found.clamp_min(0))[has_some].all()
    assert has_some.sum() > 100 and (~has_some).sum() > 10


def test_weights_hundreds_of_powers_of_ten_apart_are_relative_to_the_row() -> None:
    log_weights = torch.tensor([[-2000.0, -2000.0, 0.0], [2000.0, 1990.0, 0.0]])
    is_allowed = torch.tensor([[True, True, False], [True, True, True]])
    found = draw(log_weights, is_allowed, generator(), 1000)
    assert set(found[0].tolist()) == {0, 1} and set(found[1].tolist()) == {0}


def test_embeddings_that_are_not_finite_draw_columns_that_exist() -> None:
    log_weights = torch.full((2, 3), math.nan)
    found = draw(log_weights, torch.ones(2, 3, dtype=torch.bool), generator(), 5)
    assert bool(((found >= 0) & (found < 3)).all())


def test_a_step_repeats_its_draws_and_no_other_has_them() -> None:
    batch = batch_of(torch.zeros(2, 2), torch.tensor([0, 1]), step=4)
    others = [replace(batch, seed=1), replace(batch, step=5)]

    def numbers(of: torch.Generator) -> list[float]:
        return torch.rand(5, generator=of).tolist()

    own = numbers(generator_of(batch, "Mic"))
    torch.manual_seed(9)
    assert own == numbers(generator_of(batch, "Mic"))
    assert all(own != numbers(generator_of(other, "Mic")) for other in others)
    assert own != numbers(generator_of(batch, "SharingMatters"))


def test_rows_that_lack_one_of_the_two_have_no_triplet() -> None:
    found = triplet_of_each(torch.tensor([[3], [-1], [0], [1]]), torch.tensor([[2], [0], [-1], [0]]))
    assert (found.anchors.tolist(), found.positives.tolist(), found.negatives.tolist()) == ([0, 3], [3, 1], [2, 0])
