"""What `guie train` found out about a run, kept in the run's folder for its report and model card."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from guie.files import save_json
from guie.settings.recipe import Recipe

FILE = "verdict.json"
FEWEST = 30  # classes below which a score says too little to be quoted


@dataclass(frozen=True)
class Verdict:
    """Whether training helped, and the exported setting's score that says so.

    Attributes:
        sentence: For people.
        mp5: Of the exported setting, in the comparison that decided.
        n_classes: Classes of the queries.
        is_unseen: Whether training saw none of these classes: a first training, of half of the classes, was scored.
        recipe: Digest of the recipe that was exported. With another recipe the run is another one.
    """

    sentence: str
    mp5: float
    n_classes: int
    is_unseen: bool
    recipe: str


def save_verdict(run: Path, verdict: Verdict) -> None:
    """Writes `verdict.json` into the folder of a run; an equal file stays as it is."""
    if _read(run) != verdict:
        save_json(run / FILE, asdict(verdict))


def read_verdict(run: Path, recipe: Recipe) -> Verdict | None:
    """The verdict in the folder of a run; None where `guie train` left none for this recipe."""
    found = _read(run)
    return found if found is not None and found.recipe == recipe.digest() else None


def _read(run: Path) -> Verdict | None:
    try:
        return Verdict(**json.loads((run / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # none, damaged, or of another version
        return None
