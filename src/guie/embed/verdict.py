"""What `guie train` found out about a run, kept in the run's folder for its report and model card."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from guie.files import save_json
from guie.settings.recipe import Recipe

FILE = "verdict.json"
FEWEST = 30  # a score of fewer classes is too uncertain to be quoted


@dataclass(frozen=True)
class Verdict:
    """Whether training helped, and the score of the exported setting that shows it.

    Attributes:
        sentence: The verdict in words.
        mp5: mP@5 of the exported setting in the comparison that decided.
        n_classes: Number of classes of the queries.
        is_unseen: Whether training saw none of these classes. The score is then that of a first training, on half of
            the classes.
        recipe: Digest of the recipe that was exported. The verdict does not apply to a run of another recipe.
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
