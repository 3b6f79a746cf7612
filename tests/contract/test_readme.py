"""What the README says is so: its commands, its table of doors, its figures.

A ladder stands between `<!-- ladder RECIPE -->` and `<!-- /ladder -->`. Its first column names settings of
`tests/benchmarks/RECIPE_scores.csv` (the rows of `scores.csv` of every seed, one below the other), in that order. The
other columns are headed `dim`, `mP@5`, `R@1`, `mP@5 <domain>` or `R@1 <domain>`; a figure is the mean over the seeds,
`± x` behind it their standard deviation (n - 1), both rounded as they are written. `95 %` has the means of the
intervals' ends. Behind mP@5, ≈ marks a step within noise and † a row that was chosen on validation; both are worked out
here again. Columns headed otherwise are text.
"""

import csv
import importlib
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guie import recipe as recipe_module
from guie.cli.main import COMMANDS
from guie.options import parser
from guie.recipe import load_recipe
from guie.recipes import demo
from guie.run import DOORS, FOLDERS

PROJECT = Path(__file__).resolve().parents[2]
BENCHMARKS = PROJECT / "tests/benchmarks"
RUN_OPTIONS = (
    "--recipe",
    "--data-root",
    "--out",
    "--set",
    "--device",
    "--force",
    "--name",
    "--replace",
    "--from",
    "--to",
    "--help",
    "--images",
    "--look",
)


def readme() -> str:
    return (PROJECT / "README.md").read_text(encoding="utf-8")


def fenced(text: str) -> list[tuple[str, str]]:
    """The language and the text of every code block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[list[str]]:
    """The commands of all code blocks, and those in `quotes` within the text, as words."""
    blocks = [block for language, block in fenced(text) if language in ("", "sh", "bash", "shell", "console", "text")]
    lines = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in lines:
        if re.match(r"(\./run\.sh|\./test\.sh|(\.venv/bin/)?python3? \S+\.py|accelerate launch)\b", line.strip()):
            yield shlex.split(line.strip(), comments=True)


def tables(text: str) -> Iterator[list[list[str]]]:
    """All markdown tables, as rows of cells, without the line of dashes."""
    for block in re.findall(r"(?:^\|.*\|[ ]*\n)+", text + "\n", re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        yield [row for row in rows if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]


def known_options(script: str, command: str) -> set[str]:
    if script == "./run.sh" and command in COMMANDS:
        actions = importlib.import_module(COMMANDS[command].module).parser()._actions
        return {option for action in actions for option in action.option_strings}
    if script == "./run.sh":
        return set(RUN_OPTIONS)
    numbers = [number for number, path in DOORS.items() if path == script]
    if numbers:
        return {option for action in parser(None, numbers[0])._actions for option in action.option_strings}
    told = subprocess.run(
        [sys.executable, script, "--help"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", told))


def test_commands_name_files_and_options_that_exist():
    found = list(commands(readme()))
    assert len(found) >= 3
    assert {"./run.sh", "./test.sh"} <= {words[0] for words in found}
    for words in found:
        script = next(word for word in words if word.endswith((".py", ".sh")))
        assert (PROJECT / script).is_file(), words
        rest = words[words.index(script) + 1 :]
        options = [word.split("=")[0] for word in rest if word.startswith("--")]
        if options and script != "./test.sh":  # a script without options may not know --help, and start its work
            assert set(options) <= known_options(script, words[words.index(script) + 1]), words


def test_commands_name_recipes_and_fields_that_exist():
    loaded = set()
    for words in commands(readme()):
        values = [(words[i], words[i + 1]) for i in range(len(words) - 1)]
        recipe = dict(values).get("--recipe", "demo")
        if recipe.endswith(".py") or recipe in ("NAME", "RECIPE"):
            continue  # the reader's own
        loaded.add(load_recipe(recipe, [value for option, value in values if option == "--set"]).name)
    assert {"demo", "tiny", "minibench"} <= loaded


def test_fields_that_the_texts_set_exist():
    files = ("README.md", "run.sh", *map(str, PAGES))
    texts = "".join((PROJECT / name).read_text(encoding="utf-8") for name in files)
    found = set(re.findall(r"--set\s+([a-z][\w.]*=[\w.-]+)", texts))
    assert len(found) >= 6
    for override in found:
        load_recipe("demo", [override])


def test_row_of_a_recipe_is_that_of_the_recipe():
    text = (PROJECT / "src/guie/recipes/README.md").read_text(encoding="utf-8")
    (row,) = (block for language, block in fenced(text) if language == "python")
    assert eval(row, vars(recipe_module) | {"STRONG": demo.STRONG}) == load_recipe("demo").row("s2_backbone")


def test_table_of_doors_agrees_with_the_doors():
    table = next((rows for rows in tables(readme()) if any(DOORS[1] in cell for row in rows for cell in row)), None)
    assert table is not None, "README has no table that names the doors"
    assert len(table) == 10
    for number, row in enumerate(table[1:], 1):
        line = " | ".join(row)
        assert row[0] == f"{number:02d}" and DOORS[number] in line and FOLDERS[number] in line, line
        assert not [other for n, other in DOORS.items() if n != number and other in line], line


PAGES = sorted(path.relative_to(PROJECT) for path in PROJECT.glob("*/**/README.md") if ".venv" not in path.parts)


@pytest.mark.parametrize("page", [Path("README.md"), *PAGES], ids=str)
def test_links_lead_to_files(page: Path):
    text = (PROJECT / page).read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    links = [link for link in found if "://" not in link]
    assert [link for link in links if not ((PROJECT / page).parent / link).exists()] == []


def scores(recipe: str) -> dict[str, dict[str, list[float]]]:
    """Setting to column to the figures of all seeds."""
    with (BENCHMARKS / f"{recipe}_scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    by_setting: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for column, value in row.items():
            if column in ("dim", "seed", "p_vs_previous") or column.startswith(("mp5", "r1")):
                by_setting.setdefault(row["setting"], {}).setdefault(column, []).append(float(value or "nan"))
        by_setting[row["setting"]].setdefault("chosen_on", []).append(float(bool(row.get("chosen_on"))))
    return by_setting


T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # Student's t with n - 1 degrees of freedom, from a printed table


def marks_of(columns: dict[str, list[float]], before: dict[str, list[float]] | None) -> str:
    """The marks that a row's mP@5 must have."""
    steps = [a - b for a, b in zip(columns["mp5"], before["mp5"], strict=False)] if before else []
    if len(steps) > 1:
        is_noise = abs(statistics.mean(steps)) <= T_95[len(steps)] * statistics.stdev(steps) / len(steps) ** 0.5
    else:
        is_noise = bool(steps) and columns.get("p_vs_previous", [0.0])[0] >= 0.05
    return ("≈" if is_noise else "") + ("†" if any(columns["chosen_on"]) else "")


def assert_rounds_to(text: str, value: float, what: str) -> None:
    decimals = len(text.partition(".")[2])
    assert abs(float(text) - value) <= 0.5 * 10**-decimals + 1e-9, f"{what}: README says {text}, the csv {value:.5f}"


def check_ladder(text: str, recipe: str) -> int:
    """Compares every figure of README's ladder with the csv; how many there were."""
    marked = re.search(rf"<!-- ladder {recipe} -->\n(.*?)<!-- /ladder -->", text, re.DOTALL)
    assert marked, f"README has no table between <!-- ladder {recipe} --> and <!-- /ladder -->"
    (table,) = tables(marked[1])
    measured, n_figures, before = scores(recipe), 0, None
    assert [row[0].strip("*") for row in table[1:]] == list(measured)
    for row in table[1:]:
        columns = measured[row[0].strip("*")]
        for heading, cell in zip(table[0][1:], row[1:], strict=True):
            if heading == "95 %":
                for text, name in zip(cell.split(" to "), ("mp5_low", "mp5_high"), strict=True):
                    assert_rounds_to(text, statistics.mean(columns[name]), f"{row[0]}, {name}")
                n_figures += 2
                continue
            column = heading.lower().replace("mp@5", "mp5").replace("r@1", "r1").replace(" ", "_")
            if column not in columns:
                assert not re.match(r"dim|mp5|r1", column), f"the csv of {recipe} has no column {column}"
                continue
            marks = "".join(re.findall("[≈†]", cell))
            assert marks == (marks_of(columns, before) if column == "mp5" else ""), (
                f"{row[0]}, {heading}: the marks are {marks or 'none'}"
            )
            mean, _, spread = (part.strip("* ") for part in re.sub("[≈†]", "", cell).partition("±"))
            assert_rounds_to(mean, statistics.mean(columns[column]), f"{row[0]}, {heading}")
            if spread:
                assert_rounds_to(spread, statistics.stdev(columns[column]), f"{row[0]}, spread of {heading}")
            n_figures += 1
        before = columns
    return n_figures


@pytest.mark.parametrize("recipe", ["demo", "minibench"])
def test_ladder_is_that_of_the_csv(recipe: str):
    measured = scores(recipe)
    assert len(measured) >= 5
    assert all(
        sorted(columns["seed"]) == sorted(set(columns["seed"])) and len(columns["seed"]) >= 3
        for columns in measured.values()
    )
    assert check_ladder(readme(), recipe) >= len(measured)


def test_ladder_check_finds_a_wrong_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "x_scores.csv").write_text(
        'setting,dim,mp5,r1,seed\n"a, b",64,0.61,0.5,0\n"a, b",64,0.63,0.5,1\n"a, b",64,0.65,0.5,2\nc,64,0.7,0.5,0\n'
    )
    monkeypatch.setattr(sys.modules[__name__], "BENCHMARKS", tmp_path)
    good = (
        "| setting | dim | mP@5 | minutes |\n|---|---:|---|---|\n| a, b | 64 | .630 ± .020 | 3 |\n| **c** | 64 | "
        "**.70** | 4 |\n"
    )
    good = f"<!-- ladder x -->\n{good}<!-- /ladder -->\n"
    assert check_ladder(good, "x") == 4
    marked = "setting,dim,mp5,mp5_low,mp5_high,r1,seed,chosen_on,p_vs_previous\n"
    marked += "a,64,.61,.5,.7,.5,0,,\na,64,.63,.5,.7,.5,1,,\n"
    marked += "b,64,.62,.5,.7,.5,0,validation (the setting),.4\nb,64,.63,.5,.8,.5,1,validation (the setting),.3\n"
    (tmp_path / "y_scores.csv").write_text(marked)
    rows = (
        "| setting | mP@5 | 95 % |\n|---|---|---|\n| a | .620 ± .014 | .50 to .70 |\n| b | .625 ± .007 ≈ † | .50 to "
        ".75 |\n"
    )
    ladder = f"<!-- ladder y -->\n{rows}<!-- /ladder -->\n"
    assert check_ladder(ladder, "y") == 6
    for old, new in ((" ≈", ""), (" †", ""), (".014", ".014 ≈"), (".75", ".76")):
        with pytest.raises(AssertionError):
            check_ladder(ladder.replace(old, new, 1), "y")
    for old, new in (
        (".630", ".631"),
        (".020", ".021"),
        ("| 64 |", "| 65 |"),
        (".70", ".8"),
        ("a, b", "a"),
        ("mP@5", "mP@5 toys"),
        ("<!-- /ladder -->", ""),
    ):
        with pytest.raises(AssertionError):
            check_ladder(good.replace(old, new, 1), "x")
