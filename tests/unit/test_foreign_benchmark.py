"""The benchmark of domains never seen: its rows are recipes that the doors take; its page has the numbers of folds."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from foreign_queries import invented

from guie.evaluate.foreign_table import compared, refits
from guie.own.recipe_text import recipe_text
from guie.recipe import HEAD, Interpolate, Sum, load_recipe
from guie.run import PROJECT


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "tests/benchmarks"))


def options(out: Path, form: str = "backbone", **words: object) -> argparse.Namespace:
    given = {
        "form": form,
        "seeds": [0, 1],
        "domains": ["clothing", "emoji"],
        "rows": None,
        "data_root": out,
        "beside": [],
    }
    return argparse.Namespace(out=out, **given | words)


def test_rows_are_recipes_that_differ_and_can_be_written(tmp_path: Path):
    import foreign

    for form in foreign.MINUTES:
        base, found = foreign.of_form(form), []
        for row in foreign.rows_of(options(tmp_path, form)):
            recipe = row.change(base).validate()
            path = tmp_path / f"{row.slug}.py"
            path.write_text(recipe_text(recipe, row.name))
            assert load_recipe(str(path)) == recipe
            assert recipe.embed.final.pca_dim == 64  # which a refit needs
            assert recipe not in found
            found.append(recipe)
        assert len(found) == (4 if form == "head" else 9)
    for stage in found[1].stages.trained:  # of the whole pipeline
        assert stage.neck.has_unit_input and stage.start.has_pca_neck == (stage.start.fresh == HEAD)
    assert not any(stage.start.has_mean_centers for stage in found[1].stages.trained)
    kept = {stage.name: stage.objective.terms[1].weight for stage in found[3].stages.trained
            if isinstance(stage.objective, Sum)}  # fmt: skip
    assert {name for name, weight in kept.items() if weight == 0} == {"s2_backbone_160", "s6_backbone_288"}
    assert found[4] == foreign.MINIBENCH
    assert found[4] == foreign.keeps_cosines(foreign.as_it_was(base), ("head", "backbone"))  # it is all that was added
    assert found[5] == replace(found[4], stages=found[5].stages)
    epochs = {a.name: (a.optim.n_epochs, b.optim.n_epochs)
              for a, b in zip(found[4].stages.trained, found[5].stages.trained, strict=True) if a != b}  # fmt: skip
    assert epochs == {"s2_backbone_160": (4, 8)}  # and nothing else differs
    for row in (6, 7):
        between = next(stage for stage in found[row].stages if isinstance(stage, Interpolate))
        assert [stage.name for stage in found[row].stages.trained if stage.start.of == between.name] == [
            "s3_head_224", "s4_wide_head_224", "s5_head_288"]  # fmt: skip
    assert found[6].embed == found[7].embed == found[8].embed == found[5].embed
    teachers = {stage.name: stage.reads for stage in found[8].stages.trained}
    assert {name for name, own in teachers.items() if own == ("pretrained",)} == set(teachers) - {
        "s1_head_224", "s2_backbone_160"}  # fmt: skip
    assert len(teachers) == 8


def test_small_form_has_small_images_and_half_the_epochs():
    import foreign

    recipe = foreign.of_form("small")
    assert {stage.image_px for stage in recipe.stages.trained} == {128}
    assert {member.image_px for setting in recipe.embed.settings for member in setting.members} == {128}
    assert [stage.name for stage in recipe.stages.trained] == [
        "s1_head_128", "s2_backbone_128", "s3_head_128", "s4_wide_head_128"]  # fmt: skip
    assert recipe.data.pack_px == 160
    changed = foreign.interpolated(foreign.class_means(foreign.as_it_was(recipe)))
    assert [row.of for row in changed.stages if isinstance(row, Interpolate)] == ["s2_backbone_128"]
    epochs = [[stage.optim.n_epochs for stage in which.stages.trained] for which in (foreign.as_it_was(recipe), recipe)]
    assert epochs == [[30, 2, 30, 30]] * 2


def test_gain_is_over_the_nearest_row_that_was_measured():
    import foreign

    names = {row.slug: row.name for row in foreign.ROWS}
    twice = next(row for row in foreign.ROWS if row.slug == "twice")
    assert foreign.base_of(twice, names.values()) == names["keep"]
    assert foreign.base_of(twice, [names["was"], names["pca"], names["twice"]]) == names["pca"]
    assert foreign.base_of(twice, [names["was"], names["twice"]]) == names["was"]
    assert foreign.base_of(foreign.ROWS[0], names.values()) == foreign.base_of(twice, [names["twice"]]) == ""


def test_plan_counts_what_is_left_in_minutes(tmp_path: Path):
    import foreign

    given = options(tmp_path)
    assert "left: about 1020 min, 17.0 h" in foreign.plan(given)  # of four folds: six rows at 25 min each, three at 35
    fold = foreign.folder_of(tmp_path, "backbone", foreign.ROWS[0]) / "seed0_without_emoji"
    for name, seconds in (("03_packed", 9999), ("04_head", 60), ("05_backbone", 500), ("never_seen", 40)):
        (fold / name).mkdir(parents=True)
        (fold / name / "done.json").write_text(json.dumps({"seconds": seconds}))
    told = foreign.plan(given)
    assert "  1 of 4 folds,  10.0 min each" in told and "left: about 950 min" in told


def test_page_has_the_gains_of_each_row_over_its_base(tmp_path: Path):
    import foreign

    rows = ("off the shelf, PCA-64", "wide", "wide, refitted")
    base, better = invented(["clothing", "emoji"], rows=rows), invented(["clothing", "emoji"], rows=rows, gain=0.03)
    for row, queries in zip(foreign.ROWS, (base, better), strict=False):
        folder = foreign.folder_of(tmp_path, "backbone", row)
        folder.mkdir(parents=True)
        queries.to_parquet(folder / "queries.parquet", index=False)
    text, scores = foreign.table(options(tmp_path, seeds=[0, 1, 2]))
    gain = compared(base, better, ("a", "b")).iloc[1]
    expected = f"{gain['mean']:+.3f}, {gain['fold_low']:+.3f} to {gain['fold_high']:+.3f}".replace("0.", ".")
    assert expected.startswith("+.030") and expected in text
    again = refits(better).set_index("side").loc["never seen"]
    assert f"| {again['before']:.3f} | {again['after']:.3f} |".replace("0.", ".") in text
    assert len(scores) == 2 * 3 * 2 * 2 * 3  # recipes, seeds, folds, domains, rows
    assert isinstance(scores, pd.DataFrame) and set(scores["recipe"]) == {row.name for row in foreign.ROWS[:2]}
    with pytest.raises(ValueError, match="holds no finished row of form head"):
        foreign.table(options(tmp_path, "head"))


def test_page_is_of_the_folds_that_all_rows_have(tmp_path: Path):
    """A row of fewer seeds, of which one is not asked for; the means are of its folds in every row."""
    import foreign

    domains = ["clothing", "emoji", "logos"]
    base, better = invented(domains, seeds=(0, 1, 2)), invented(domains, seeds=(0, 2), gain=0.03)
    better = better[better["left_out"] != "logos"]
    for row, queries in zip(foreign.ROWS, (base, better), strict=False):
        folder = foreign.folder_of(tmp_path, "backbone", row)
        folder.mkdir(parents=True)
        queries.to_parquet(folder / "queries.parquet", index=False)
    text, scores = foreign.table(options(tmp_path, seeds=[0, 1], domains=domains))
    assert set(zip(scores["seed"], scores["left_out"], strict=True)) == {(0, "clothing"), (0, "emoji")}
    last = base[(base["row"] == "ensemble, flip, PCA-64") & (base["seed"] == 0) & base["is_never"]]
    means = last[last["left_out"] != "logos"].groupby("left_out")["precision"].mean()
    assert (
        f"| minibench as it was | {means.mean():.3f} |".replace("0.", ".") in text
        and "2 folds that every row has" in text
    )
    with pytest.raises(
        ValueError, match=r"have no fold of --seeds and --domains in common \(minibench as it was, unit"
    ):
        foreign.table(options(tmp_path, seeds=[1], domains=domains))


def test_page_counts_the_folds_of_other_folders(tmp_path: Path):
    """Two machines made a seed each, and one of them a fold that the other has, too: the first folder's counts."""
    import foreign

    domains = ["clothing", "emoji"]
    whole = {"as": invented(domains, seeds=(0, 1)), "better": invented(domains, seeds=(0, 1), gain=0.03)}
    for out, seeds in ((tmp_path / "a", (0,)), (tmp_path / "b", (0, 1))):
        for row, queries in zip(foreign.ROWS, whole.values(), strict=False):
            folder = foreign.folder_of(out, "backbone", row)
            folder.mkdir(parents=True)
            own = queries[queries["seed"].isin(seeds)]
            if out.name == "b":
                own = own.assign(precision=own["precision"].where(own["seed"] == 1, 0.0))
            own.to_parquet(folder / "queries.parquet", index=False)
    text, scores = foreign.table(options(tmp_path / "a", beside=[tmp_path / "b"]))
    gain = compared(*whole.values(), ("a", "b")).iloc[1]
    assert f"{gain['mean']:+.3f}, {gain['fold_low']:+.3f} to".replace("0.", ".") in text
    assert set(zip(scores["seed"], scores["left_out"], strict=True)) == {(s, d) for s in (0, 1) for d in domains}
