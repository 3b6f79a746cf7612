"""Finished answers of folds are not lost: what another --refit or another ladder would replace is refused, and the rows
of a refit stay where --refit is left out."""

from pathlib import Path

import pandas as pd
import pytest
from changing import changed
from foreign_world import LAST, PCA, draw, foreign, world_recipe, write_recipe

from guie.recipe import FitImages, Member, Neck, Optim, Setting, Stage

REFITTED = f"{PCA}, refitted"


class Command:
    """`guie foreign` on a world of its own, of which `hats` has been left out without a refit."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.monkeypatch, self.folder = monkeypatch, folder / "out/world/foreign"
        file = write_recipe(folder, world_recipe())
        self.words = [file, "--data-root", draw(folder / "data"), "--out", folder / "out"]
        assert self("--domains", "hats") == 0

    def __call__(self, *more: str) -> int:
        return foreign(self.monkeypatch, *self.words, *more)

    @property
    def answers(self) -> Path:
        return self.folder / "seed3_without_hats/never_seen"

    def mark(self) -> tuple[bytes, bytes]:
        """The mark and the answers of the fold without hats."""
        return (self.answers / "done.json").read_bytes(), (self.answers / "queries.parquet").read_bytes()

    def rows(self, domain: str = "hats") -> list[str]:
        """The rows of a fold in the results of all."""
        table = pd.read_parquet(self.folder / "queries.parquet")
        return list(dict.fromkeys(table["row"][table["left_out"] == domain]))


def refused(capsys: pytest.CaptureFixture[str], status: int, told: str) -> None:
    error = capsys.readouterr().err
    assert status == 2 and told in error and "--name NAME" in error and "--replace" in error, error


def test_answers_are_added_to_and_never_replaced_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    command = Command(tmp_path, monkeypatch)
    plain, before = command.mark(), pd.read_parquet(command.answers / "queries.parquet")
    assert command.rows() == [PCA, LAST] and not (command.folder / "refits.csv").exists()

    refused(capsys, command("--domains", "hats", "--set", f"embed.settings.{PCA}.pca_dim=4"), "pca_dim 8, not 4")
    assert command.mark() == plain

    assert command("--domains", "hats", "--refit") == 0  # an addition: every row that was there stays as it was
    assert command.rows() == [PCA, REFITTED, LAST]
    after = pd.read_parquet(command.answers / "queries.parquet")
    kept = after[after["row"] != REFITTED].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)
    gained, with_refit = (command.folder / "refits.csv").read_bytes(), command.mark()

    capsys.readouterr()
    assert command("--domains", "hats") == 0  # without --refit the rows stay, and the fold is not asked again
    told = capsys.readouterr().out
    assert "with --refit 0.75, as the finished folds have it" in told and "1 of 1 folds are finished already" in told
    assert command.mark() == with_refit and (command.folder / "refits.csv").read_bytes() == gained

    refused(capsys, command("--domains", "hats", "--refit", "0.25"), "never_seen: refit share 0.75, not 0.25")
    assert command.mark() == with_refit

    assert command("--domains", "hats", "cups") == 0  # a fold beside them has such rows, too
    assert command.rows("cups") == command.rows() == [PCA, REFITTED, LAST] and command.mark() == with_refit

    assert command("--domains", "hats", "--replace") == 0
    assert command.rows() == [PCA, LAST] and not (command.folder / "refits.csv").exists()


def test_sources_of_the_domain_leave_the_fold_and_the_command_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    recipe = world_recipe()
    first, last = recipe.embed.settings
    first = changed(first, fit_on=(FitImages(("cups",)), FitImages(("hats", "maps"), weight=3.0)))
    file = write_recipe(tmp_path, changed(recipe, embed__settings=(first, last)).validate())
    words = [file, "--data-root", draw(tmp_path / "data"), "--out", tmp_path, "--domains", "hats"]
    assert foreign(monkeypatch, *words) == 0
    assert f"seed 3, without hats: {PCA} is not fitted on hats\n" in capsys.readouterr().out
    log = (tmp_path / "world/foreign/seed3_without_hats/never_seen/log.txt").read_text()
    assert f"{PCA}: PCA fitted on 25% 16 images of cups, 75% 16 images of maps" in log
    assert f"{PCA}: not fitted on hats (data.foreign_domain leaves 'hats' out)" in log


def test_head_only_takes_a_head_of_another_width_than_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nothing of a fold is exported; the doors that read the written recipe must take it, too."""
    recipe = world_recipe()
    head = changed(recipe.stages.head[0], neck=Neck(dim=512))
    optim = Optim(n_epochs=1, batch_size=8, lr=1e-3)
    tuned = Stage("s2", trains="backbone", image_px=32, neck=head.neck, optim=optim)
    last = Setting("tuned, PCA-64", (Member("s2", 32),), pca_dim=64)
    settings = (*recipe.embed.settings, last)
    recipe = changed(recipe, stages__head=(head,), stages__backbone=(tuned,), embed__settings=settings).validate()
    words = [write_recipe(tmp_path, recipe), "--data-root", draw(tmp_path / "data"), "--out", tmp_path]
    assert foreign(monkeypatch, *words, "--domains", "hats", "--head-only") == 0
    answers = pd.read_parquet(tmp_path / "world/foreign_head/queries.parquet")
    assert answers.groupby("row", sort=False)["dim"].unique().map(list).to_dict() == {PCA: [8], LAST: [512]}
