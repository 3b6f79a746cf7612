"""The script that measures towers on an accelerator: the FLOPs that its shares of the peak are made of."""

import pytest

from guie.run import PROJECT


def products(width: int, tokens: int) -> int:
    """FLOPs of a transformer's block: four projections, a perceptron four times as wide, and attention's two."""
    return 24 * tokens * width**2 + 4 * tokens**2 * width


def of_one_query(width: int, tokens: int) -> int:
    """FLOPs of a block that asks for one token: keys and values of all tokens, the rest of one."""
    return 20 * width**2 + 4 * tokens * width**2 + 4 * tokens * width


# Patches, two blocks, and what follows them. The second block of open_clip's tower asks for the class token alone, and
# that is projected. SigLIP's tower ends in an attention of one query to all tokens, with a perceptron behind it.
BY_HAND = {
    "ViT-B-32": (50, 2 * 49 * (3 * 32**2) * 64 + products(64, 50) + of_one_query(64, 50) + 2 * 64 * 512),
    "vit_base_patch32_siglip_256": (64, 2 * 64 * (3 * 32**2) * 48 + 2 * products(48, 64) + of_one_query(48, 64)),
}


def test_flops_of_a_tower_are_those_counted_by_hand(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(PROJECT / "tests/benchmarks"))
    monkeypatch.syspath_prepend(str(PROJECT / "tests"))
    from towers_on_a_card import forward_flops, small_towers

    counted = {model.name: forward_flops(model, px) for model, px in small_towers()}
    assert {name: counted[name][::-1] for name in BY_HAND} == BY_HAND
