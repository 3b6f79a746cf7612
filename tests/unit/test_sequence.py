"""What run.sh asks Python: the recipe in two words, the scores as a table."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from guie.sequence import main

SCORES = '''\
setting,members,dim,mp5,mp5_low,r1
off the shelf,a,1280,0.64149,0.6,0.7
"+ ensemble, ""PCA""","a,b",64,0.7016,0.6,0.751
'''


def test_recipe_is_told_by_name_and_smallest_cosine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "tiny"]) == 0
    assert main(["recipe", "tiny", "export.min_parity_cosine=0.5", "seed=3", "data.val_by=image"]) == 0
    assert capsys.readouterr().out == "tiny 0.999 class 64\ntiny 0.5 image 64\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tinny"], "no recipe 'tinny'; did you mean 'tiny'?"),
        (["my own.py"], "my own.py does not exist"),
        (["tiny", "sed=1"], "did you mean 'seed'?"),
        (["tiny", "--help"], "--help"),
        (["tiny", 'seed=1; echo "it\'s"'], "it's"),
        (["--recipe"], "no recipe '--recipe'"),
    ],
)
def test_what_cannot_be_a_recipe_ends_in_one_line(
    words: list[str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["recipe", *words]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.startswith("error: ") and told in error and error.count("\n") == 1


def test_scores_stand_in_columns_whatever_a_setting_is_called(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "my 'scores'.csv"
    path.write_text(SCORES)
    assert main(["scores", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "                      dim   mP@5    R@1",
        "  off the shelf      1280  0.641  0.700",
        '  + ensemble, "PCA"    64  0.702  0.751',
    ]


@pytest.mark.parametrize("text", [None, "", "setting,dim\na,3\n", "setting,dim,mp5,r1\na,3,x,y\n"])
def test_scores_that_cannot_be_read_end_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
) -> None:
    if text is not None:
        (tmp_path / "scores.csv").write_text(text)
    assert main(["scores", str(tmp_path / "scores.csv")]) == 2
    out, error = capsys.readouterr()
    assert out == "" and re.fullmatch(rf"error: .*{tmp_path}/scores\.csv.*\n", error)


def test_answer_does_not_wait_for_torch() -> None:
    code = "import sys, guie.sequence as s; s.main(['recipe', 'tiny']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "tiny 0.999 class 64\nFalse\n"
