"""Which score a model card quotes."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from guie.embed.verdict import FILE, Verdict, read_verdict, save_verdict
from guie.export.card import Facts, card_text
from guie.recipe import load_recipe

TINY = load_recipe("tiny")
SCORES = {"setting": TINY.embed.final.name, "mp5": 0.75, "r1": 0.5, "mp5_low": 0.7, "mp5_high": 0.8}
SAID = "Training helped: mP@5 0.625 against 0.500 off the shelf."


def metadata(card: str) -> dict[str, object]:
    head = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    assert head is not None
    return yaml.safe_load(head[1])


def card_of(n_classes: int, verdict: Verdict | None = None) -> str:
    return card_text(Facts(TINY, SCORES, SCORES, [], None, n_classes, verdict), [])


@pytest.mark.parametrize(("n_classes", "quoted"), [(0, []), (29, []), (30, [0.75])])
def test_score_of_few_classes_is_not_quoted(n_classes: int, quoted: list[float]):
    assert values(card_of(n_classes)) == quoted


@pytest.mark.parametrize(("n_classes", "quoted"), [(29, []), (30, [0.625])])
def test_score_that_decided_is_quoted_and_told_first(n_classes: int, quoted: list[float]):
    """The run's own validation may hold few classes; it is not asked."""
    card = card_of(1, Verdict(SAID, 0.625, n_classes, True, TINY.digest()))
    assert values(card) == quoted
    assert card.index(SAID) < card.index(f"| this model: {TINY.embed.final.name} | 0.750 |")
    assert ("held-back classes of a first training" in card.split("\n---\n")[0]) == bool(quoted)


@pytest.mark.parametrize("is_unseen", [False, True])
def test_card_says_which_model_it_describes(is_unseen: bool):
    """Where training did not help, the verdict quotes the score of a model that is not in the folder."""
    rows = (TINY.embed.final, TINY.embed.settings[0])
    for recipe in (replace(TINY, embed=replace(TINY.embed, settings=order)) for order in (rows, rows[::-1])):
        final = recipe.embed.final
        facts = Facts(recipe, SCORES | {"setting": final.name}, SCORES, [], None, 40)
        card = card_text(replace(facts, verdict=Verdict(SAID, 0.625, 40, is_unseen, recipe.digest())), [])
        assert ("The model here was then trained on all." in card) == (final.is_trained and is_unseen)
        assert (f'The model here is the one without training, "{final.name}".' in card) == (not final.is_trained)
        assert values(card) == [0.625 if final.is_trained else SCORES["mp5"]]


def values(card: str) -> list[float]:
    models = metadata(card).get("model-index", [])
    return [metric["value"] for model in models for result in model["results"] for metric in result["metrics"]]


def test_verdict_is_of_its_recipe_alone_and_damage_is_none(tmp_path: Path):
    verdict = Verdict(SAID, 0.625, 40, False, TINY.digest())
    assert read_verdict(tmp_path, TINY) is None
    save_verdict(tmp_path, verdict)
    assert read_verdict(tmp_path, TINY) == verdict
    assert read_verdict(tmp_path, replace(TINY, seed=9)) is None
    (tmp_path / FILE).write_text('{"sentence": "cut')
    assert read_verdict(tmp_path, TINY) is None


def test_card_names_the_domain_that_the_projection_was_fitted_without():
    recipe = replace(TINY, data=replace(TINY.data, foreign_domain="toys"))
    card = card_text(Facts(recipe, SCORES, SCORES, [], None, 30, None), [])
    assert "fitted on training images (data.foreign_domain leaves 'toys' out)" in card
    assert "data.foreign_domain" not in card_of(30)
