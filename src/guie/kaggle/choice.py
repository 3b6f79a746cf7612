"""Which recipe fits the session: by the memory of its cards, and the attached data sets."""

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


def choose_recipe(
    card_gb: Sequence[float], folders: Mapping[str, Path], sets: Sequence[str] = (), asked: str = ""
) -> tuple[str, str]:
    """The recipe that fits what is there, and the reason.

    The small recipe is never taken in place of the large one that somebody asked for: by the first cell, or by
    attaching one of its data sets to a notebook with the cards for it.

    Args:
        card_gb: Memory of each card.
        folders: Attached data sets that LARGE reads; see `data_folders`.
        sets: Changed fields of LARGE: `sets_of_sources`.
        asked: The setting of the first cell that asks for LARGE; '' if there is none.

    Raises:
        ValueError: LARGE is asked for, and does not fit the cards.
        FileNotFoundError: LARGE fits the cards, and some of its data sets are not attached.
    """
    if why := _why_not(card_gb):
        if asked:
            raise ValueError(f"{asked} is set, but {why}; switch on two T4, or name the RECIPE for them")
        return SMALL, f"{why}, and {SMALL} needs none"
    needed = needed_folders(load_recipe(LARGE, sets))
    if lacking := sorted(needed - folders.keys()):
        lack = f"{LARGE} fits the cards, but {', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not attached"
        if not asked and not folders:
            return SMALL, lack
        raise FileNotFoundError(
            f"{lack}; attach {'it' if len(lacking) == 1 else 'them'}, name the folder in DATA, name in SETS the data "
            f"sets to train on, or set RECIPE = {SMALL!r}"
        )
    plural = "s" if len(card_gb) > 1 else ""
    return LARGE, f"its data sets are attached and it fits {len(card_gb)} card{plural} of {min(card_gb):.1f} GB"


def _why_not(card_gb: Sequence[float]) -> str:
    """Why LARGE does not fit the cards; '' if it does."""
    if not card_gb:
        return f"there is no GPU, which {LARGE} needs"
    if min(card_gb) < CARD_GB:
        return f"{LARGE} needs {CARD_GB:g} GB on each card, and the smallest has {min(card_gb):.1f}"
    return ""
