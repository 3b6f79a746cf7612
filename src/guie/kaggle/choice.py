"""Which recipe fits the session: by the memory of its cards, the attached data sets and the weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from guie.kaggle.inputs import needed_folders
from guie.recipe import load_recipe

LARGE, SMALL = "kaggle_t4", "demo"
CARD_GB = 14.0  # memory that LARGE needs on each card: its arithmetic says 11; a T4 reports 14.6, a P100 15.9


def cards() -> tuple[float, ...]:
    """Memory of each GPU that torch can use, in GiB.

    Another process asks torch, and releases the cards when it ends.
    """
    if shutil.which("nvidia-smi") is None:
        return ()
    command = [sys.executable, "-P", "-m", "guie.kaggle.card_memory"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(float(line) for line in done.stdout.splitlines())


def choose_recipe(card_gb: Sequence[float], folders: Mapping[str, Path], can_have_weights: bool) -> tuple[str, str]:
    """The recipe that fits what is there, and the reason.

    Args:
        card_gb: Memory of each card.
        folders: Attached data sets that LARGE reads; see `data_folders`.
        can_have_weights: Whether the backbone of LARGE is attached or can be fetched.
    """
    if not card_gb:
        return SMALL, f"there is no GPU, and {SMALL} needs none"
    smallest = min(card_gb)
    if smallest < CARD_GB:
        return SMALL, f"{LARGE} needs {CARD_GB:g} GB on each card, and the smallest has {smallest:.1f}"
    lacking = sorted(needed_folders(load_recipe(LARGE)) - folders.keys())
    if lacking:
        return SMALL, f"{LARGE} fits the cards, but {', '.join(lacking)} is not attached"
    if not can_have_weights:
        why = "its backbone is neither attached (hf/ in the kit) nor can it be fetched: the internet is off"
        return SMALL, f"{LARGE} fits the cards, but {why}"
    plural = "s" if len(card_gb) > 1 else ""
    return LARGE, f"its data sets are attached and it fits {len(card_gb)} card{plural} of {smallest:.1f} GB"
