"""A mistake in a recipe's file is one line: the file, the line in it, the field, and the nearest name or what to do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trees import put

from guie.recipe import (
    Adam,
    ArcFace,
    CosFace,
    FitImages,
    GrowingMargin,
    Model,
    Recipe,
    Soup,
    Stage,
    Stages,
    Steps,
    load_recipe,
)
from guie.settings.fields import check

RECIPES = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "src/guie/recipes").glob("[a-z]*.py"))
FILE = """from dataclasses import replace
from guie.recipe import *
from guie.recipes.tiny import RECIPE as TINY

FIRST = replace(TINY.stages.head[0])
RECIPE = replace(TINY, name="mine", stages=replace(TINY.stages, head=(FIRST,)))
"""
FIRST = "TINY.stages.head[0]"
PHASE = "the phase follows from the place: Stages(head=(...), backbone=(...), highres=(...))"
STAGE = 'Stage("s", trains="head", start=Start(fresh=HEAD), optim=Optim(n_epochs=1, batch_size=8, lr=.1))'


def loaded(tmp_path: Path, first: str) -> Recipe:
    path = tmp_path / "mine.py"
    path.write_text(FILE.replace(f"replace({FIRST})", first))
    return load_recipe(str(path))


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (STAGE.replace("lr=", "lrr=1, lr="), "Optim has no field 'lrr'; did you mean 'lr'?"),
        (STAGE.replace("trains", "source=(), trains"), "Stage has no field 'source'; did you mean 'sources'?"),
        (f"replace({FIRST}.optim, n_epoch=3)", "Optim has no field 'n_epoch'; did you mean 'n_epochs'?"),
        (
            f"replace({FIRST}, augment=Augment(rotate=3))",
            "Augment has no field 'rotate'; did you mean 'rotate_deg'?",
        ),
        ('Stage("s", image_px=64)', "Stage lacks 'trains' and 'optim'"),
        ("Optim(lr=.1)", "Optim lacks 'n_epochs' and 'batch_size'"),
        ("Steps(warmup_share=0.1)", "Steps lacks 'drops'"),
        ('Model("timm")', "Model lacks 'name'"),
        ("GrowingMargin(.1, .2, .3, .4)", "GrowingMargin takes 3 values without a name, and 4 are given; name them"),
        ('Stage("s", "head", 64)', "Stage takes 1 values without a name, and 3 are given; name them"),
        ('Soup("s", ("a",), is_greedy=True)', "Soup takes 1 values without a name, and 2 are given; name them"),
        ("Optim(1, 8, lr=.1)", "Optim takes 0 values without a name, and 2 are given; name them"),
        ('Stge("s")', "name 'Stge' is not defined; did you mean 'Stage'?"),
        ("replace(TINY.stage[0])", "TypeError: 'method' object is not subscriptable"),
        ("replace(TINY.stages.head[9])", "IndexError: tuple index out of range"),
        # what files said before settings were nested
        ('Stage("s", "head", "head", 64, 1, 8, .1, fresh=())', "Stage has no field 'fresh'; it is start.fresh now"),
        (f"replace({FIRST}, n_epochs=3)", "Stage has no field 'n_epochs'; it is optim.n_epochs now"),
        (f"replace({FIRST}, momentum=0.5)", "Stage has no field 'momentum'; it is optim.method.momentum now"),
        (f"replace({FIRST}, model=TINY.model)", "Stage has no field 'model'; it is start.model now"),
        (
            f'replace({FIRST}, phase="head")',
            f"Stage has no field 'phase'; {PHASE}",
        ),
        (
            f'replace({FIRST}, soup=("a",))',
            "Stage has no field 'soup'; a soup is a separate kind of row: Soup(name, of=(...))",
        ),
        ("GrowingMargin(start_rad=0.1)", "GrowingMargin has no field 'start_rad'; it is start now"),
        ("ClassMargin(high_rad=0.5)", "ClassMargin has no field 'high_rad'; it is high now"),
        ("EpochMargin(0.5, 0.0, 0.5)", "name 'EpochMargin' is not defined; it is GrowingMargin now"),
        ("ClassFrequencyMargin()", "name 'ClassFrequencyMargin' is not defined; it is ClassMargin now"),
        ("NeckShape()", "name 'NeckShape' is not defined; it is Neck now"),
        (f"Stages(neck=({FIRST},))", "Stages has no field 'neck'; known: head, backbone, highres"),
    ],
)
def test_what_python_refuses_is_told_with_its_line(tmp_path: Path, first: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        loaded(tmp_path, first)
    assert str(caught.value) == f"recipe file {tmp_path / 'mine.py'}, line 5, cannot be read: {told}"


def test_syntax_and_imports_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    for text, told in (
        ("X = (1,\n", "cannot be read: SyntaxError: '(' was never closed (mine.py, line 1)"),
        ("from guie.recipe import Stagge\n", "did you mean 'Stage'?"),
        ("from guie.recipe import EpochMargin\n", "it is GrowingMargin now"),
        ("import no_such_package\n", "line 1, cannot be read: ModuleNotFoundError: No module named 'no_such_package'"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError) as caught:
            load_recipe(str(path))
        message = str(caught.value)
        assert message.startswith(f"recipe file {path}") and told in message and "\n" not in message


WRONG: list[tuple[str, Any, str]] = [
    ("optim.lr", "1e-3", "is '1e-3' (str), must be a number: write it without quotes"),
    ("optim.n_epochs", "3", "is '3' (str), must be a whole number: write it without quotes"),
    ("optim.n_epochs", 3.0, "is 3.0 (float), must be a whole number"),
    ("optim.n_epochs", True, "is True (bool), must be a whole number"),
    (
        "optim.batch_size",
        np.int64(8),
        f"is {np.int64(8)!r} (int64), must be a whole number: write int(...) around it",
    ),
    ("validation.keeps_best", 1, "is 1 (int), must be True or False"),
    ("validation.keeps_best", "no", "is 'no' (str), must be True or False"),
    (
        "start.fresh",
        ["neck", "objective"],
        "is ['neck', 'objective'] (list), must be a tuple of texts: write (...) instead of [...]",
    ),
    ("start.fresh", "neck", "is 'neck' (str), must be a tuple of texts: write ('neck',)"),
    ("neck.dropouts", 0.2, "is 0.2 (float), must be a tuple of numbers: write (0.2,)"),
    (
        "objective",
        GrowingMargin(),
        "is GrowingMargin(start=0.1, step=0.1, max=0.5) (GrowingMargin), must be one of ArcFace,",
    ),
    (
        "objective",
        ArcFace,
        "is <class 'guie.settings.objectives.margins.ArcFace'> (type), must be settings, not their class: "
        "write ArcFace()",
    ),
    ("objective", 0.3, "is 0.3 (float), must be one of ArcFace, CosFace"),
    ("objective.margin_rad", "0.3", "is '0.3' (str), must be a number or a GrowingMargin or a ClassMargin"),
    ("optim.blocks", 0.9, "is 0.9 (float), must be a LayerDecay or a BlockFactors"),
    ("sampling", -0.5, "is -0.5 (float), must be a Weighted or a PerClass"),
    ("optim", Adam(), "is Adam() (Adam), must be an Optim"),
    ("augment", 0.3, "is 0.3 (float), must be an Augment: write Augment(flip, shift,"),
    ("optim.lr", None, "is None (NoneType), must be a number"),
    ("start.model", "timm", "is 'timm' (str), must be a Model: write Model("),
]


@pytest.mark.parametrize(("path", "value", "told"), WRONG, ids=[f"{path}{i}" for i, (path, *_) in enumerate(WRONG)])
def test_wrong_type_is_told_with_field_value_and_remedy(path: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(put(load_recipe("tiny"), f"stages.s1_head.{path}", value))
    message = str(caught.value)
    assert message.startswith(f"stages.s1_head.{path} {told}") and "\n" not in message


def test_wrong_type_inside_a_value_is_told_with_its_place() -> None:
    recipe, at = load_recipe("tiny"), "stages.s1_head"
    for path, value, told in (
        (f"{at}.start.fresh", ("neck", 3), f"{at}.start.fresh is 3 (int), must be a text"),
        (f"{at}.sources", ("toys", 3), f"{at}.sources.1 is 3 (int), must be a text"),
        (
            f"{at}.optim.schedule",
            Steps(drops=(1, 2.5)),  # type: ignore[arg-type]
            f"{at}.optim.schedule.drops.1 is 2.5 (float), must be a whole number",
        ),
        (
            f"{at}.objective",
            CosFace(GrowingMargin("a")),  # type: ignore[arg-type]
            f"{at}.objective.margin_cosine.start is 'a' (str), must be a number: write it without quotes",
        ),
        (f"{at}.name", 3, "stages.0.name is 3 (int), must be a text"),
    ):
        with pytest.raises(ValueError) as caught:
            check(put(recipe, path, value))
        assert str(caught.value) == told


def test_wrong_types_outside_the_stages() -> None:
    recipe = load_recipe("tiny")
    head = recipe.stages.head
    for wrong, told in (
        (replace(recipe, stages=tuple(recipe.stages)), "stages is (Stage("),
        (replace(recipe, stages=head), "must be a Stages: write Stages(head, backbone, highres)"),
        (replace(recipe, stages=Stages(head=list(head))), "stages.head is [Stage("),
        (
            replace(recipe, stages=Stages(head=list(head))),
            "must be a tuple of Stages or Soups or Interpolates: write (...) instead of [...]",
        ),
        (replace(recipe, stages=Stages(backbone=head[0])), "stages.backbone is Stage("),
        (
            replace(recipe, stages=Stages(backbone=head[0])),
            "must be a tuple of Stages or Soups or Interpolates: write (Stage(",
        ),
        (replace(recipe, seed="0"), "seed is '0' (str)"),
        (
            replace(recipe, model=Model("timm", "x", mean=(0.5, 0.5))),
            "model.mean is (0.5, 0.5) (tuple), must be a tuple of 3",
        ),
        (
            replace(recipe, model=Model("timm", "x", mean=0.5)),
            "model.mean is 0.5 (float), must be a tuple of 3 numbers",
        ),
        (
            replace(recipe, embed=replace(recipe.embed, fit_on=FitImages())),
            "must be a tuple of FitImages or FitWords: write (FitImages(",
        ),
        (replace(recipe, data=None), "data is None (NoneType), must be a Data: write Data("),
    ):
        with pytest.raises(ValueError) as caught:
            check(wrong)
        assert told in str(caught.value) and "\n" not in str(caught.value)


def test_types_are_looked_at_when_a_file_is_loaded(tmp_path: Path) -> None:
    optim = f"replace({FIRST}, optim=replace({FIRST}.optim, lr=%s))"
    with pytest.raises(ValueError, match=r"^stages.s1_head.optim.lr is '1e-3' \(str\), must be a number"):
        loaded(tmp_path, optim % '"1e-3"')
    assert loaded(tmp_path, optim % "1").stages.trained[0].optim.lr == 1  # a whole number is a number


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_of_ours_holds_what_its_types_say(name: str) -> None:
    check(load_recipe(name))


def test_row_that_is_no_dataclass_of_ours() -> None:
    for row in ("s1", Model("timm", "x"), None):
        with pytest.raises(ValueError, match="must be a Stage or a Soup"):
            check(replace(load_recipe("tiny"), stages=Stages(head=(row,))))  # type: ignore[arg-type]
    assert (Stage.__name__, Soup.__name__) == ("Stage", "Soup")
