"""Runs doors 01 to 08 in this process, where a failure shows its own traceback."""

from collections.abc import Sequence
from typing import Any

from guie.door import open_door

# What each door works with, as its file in data_prep/ or src/ says.
WORK: dict[int, tuple[str, dict[str, Any]]] = {
    1: ("guie.data.build:build_manifests", {}),
    2: ("guie.data.balance:merge_and_balance", {}),
    3: ("guie.data.packing:pack_images", {}),
    4: ("guie.train.stage:train_phase", {"phase": "head"}),
    5: ("guie.train.stage:train_phase", {"phase": "backbone"}),
    6: ("guie.train.stage:train_phase", {"phase": "highres"}),
    7: ("guie.evaluate.ladder:score_ladder", {}),
    8: ("guie.export.submission:export_submission", {}),
}


def open_here(number: int, options: Sequence[str]) -> int:
    """Opens door `number` with these options and the CPU; returns its exit status."""
    work, words = WORK[number]
    return open_door(number, None, work, [*options, "--device", "cpu"], **words)
