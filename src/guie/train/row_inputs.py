"""Digests of everything that decides the weights of a recipe's row: settings, images, other rows' weights."""

from __future__ import annotations

from typing import Any

from guie import versions
from guie.done import outputs_digest
from guie.run import Run
from guie.settings.mixed import Interpolate, Soup
from guie.settings.names import PRETRAINED, read_by_row
from guie.settings.stage import Row, Stage


def settings_of(run: Run, row: Row) -> str:
    """Digest of all fields that decide the row's weights."""
    return run.recipe.digest(*read_by_row(row.name), **versions.OF_WEIGHTS)


def read_of(run: Run, row: Row) -> dict[str, Any]:
    """What `settings_of` hashes, by name."""
    return run.recipe.values_of(read_by_row(row.name)) | {versions.CODE: versions.OF_WEIGHTS}


def inputs_of(run: Run, row: Row) -> dict[str, str]:
    """Digests of what the row reads: images, and other rows' weights."""
    inputs = {"03_packed": outputs_digest(run.folder(3)), "parent": _digest_of(run, run.recipe.parent(row))}
    if isinstance(row, Soup):
        inputs["soup"] = " ".join(outputs_digest(run.stage_folder(name)) for name in row.of)
    if isinstance(row, Interpolate):
        inputs["start"] = _digest_of(run, row.start)
    if isinstance(row, Stage) and row.reads:
        inputs["teachers"] = " ".join(_digest_of(run, name) for name in row.reads)
    return inputs


def _digest_of(run: Run, row: str) -> str:
    """Digest of a finished row's results, or of the pretrained weights."""
    return f"{PRETRAINED} {run.weights_digest()}" if row == PRETRAINED else outputs_digest(run.stage_folder(row))


def plan_of(run: Run, row: Row) -> str:
    """What the row is about to do, for the log."""
    if isinstance(row, Soup):
        return f"the soup of {', '.join(row.of)}"
    if isinstance(row, Interpolate):
        return f"lies between {row.start} and {row.of}; share of the latter: {', '.join(f'{s:g}' for s in row.shares)}"
    stride = f", patch stride {row.patch_stride}," if row.patch_stride else ""
    parent = run.recipe.parent(row)
    return f"trains {row.trains} at {row.image_px} px{stride} for {row.optim.n_epochs} epochs, from {parent}"
