"""Colour on terminals only, tables and bars that fit the window."""

import io
import os
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from guie.own.photos import named
from guie.shown import BAR, cut, folded, painted, progress, table

ESCAPE = "\x1b"


class Window(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def in_terminal(command: list[str], columns: int, rows: int = 24, **variables: str) -> str:
    """What a command writes to a pseudo-terminal of that size; its two streams in one."""
    terminal, its_end = os.openpty()
    termios.tcsetwinsize(its_end, (rows, columns))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")} | variables
    process = subprocess.Popen(command, stdout=its_end, stderr=its_end, stdin=subprocess.DEVNULL, env=env)
    os.close(its_end)
    text = b""
    while True:
        try:
            block = os.read(terminal, 1 << 16)
        except OSError:  # on Linux: nobody has the terminal open any more
            break
        if not block:
            break
        text += block
    process.wait()
    os.close(terminal)
    return text.decode().replace("\r\n", "\n")


def test_error_of_a_process_is_red_on_a_terminal_only():
    command = [sys.executable, "-m", "guie", "lok"]
    assert in_terminal(command, 80).startswith("\x1b[1;31merror:\x1b[0m guie has no command 'lok'")
    assert in_terminal(command, 80, NO_COLOR="1").startswith("error: guie has")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.startswith("error: guie has") and ESCAPE not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("variables", "is_painted"),
    [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "0"}, False), ({"TERM": "dumb"}, False)],
)
def test_colours_follow_the_environment(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], is_painted: bool):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (painted("a", "error", Window()) == "\x1b[1;31ma\x1b[0m") == is_painted
    assert painted("a", "error", io.StringIO()) == "a"


def test_warnings_and_scores_of_the_log_are_painted_on_a_terminal_and_never_in_the_file(tmp_path: Path):
    code = (
        f"import logging, pathlib; from guie.run import set_up_logging as up; up(pathlib.Path({str(tmp_path)!r})); "
        "log = logging.getLogger('guie.x'); log.warning('odd'); log.info('mP@5 %.3f   R@1 %.3f', .5, .6)"
    )
    told = in_terminal([sys.executable, "-c", code], 80)
    assert told == "\x1b[33modd\x1b[0m\nmP@5 \x1b[1;32m0.500\x1b[0m   R@1 0.600\n"
    assert ESCAPE not in (tmp_path / "log.txt").read_text()


def test_window_cuts_a_logged_table_on_the_terminal_and_not_in_the_file(tmp_path: Path):
    code = (
        f"import pathlib; from guie.run import set_up_logging as up; up(pathlib.Path({str(tmp_path)!r})); "
        "from guie.data.manifest import log_table; "
        "log_table([{'source': 'products' * 4, 'images': 141931, 'classes': 9691, 'left out': 1000}])"
    )
    told = in_terminal([sys.executable, "-c", code], 40)
    assert all(len(line) <= 40 for line in told.splitlines()) and "…" in told and "141,931" in told
    head, row = (tmp_path / "log.txt").read_text().splitlines()
    assert head.split()[-4:] == ["images", "classes", "left", "out"]
    assert row.split()[-4:] == ["products" * 4, "141,931", "9,691", "1,000"]


HEAD = ("tower", "mP@5", "95 %", "R@1", "PCA-64", "ms", "size", "licence")
ROWS = [
    ("vit_base_patch14_reg1_tipsv2.webli", ".712", ".68-.74", ".790", ".655", "143", "86M", "apache-2.0"),
    ("shipped ViT", ".475", ".44-.51", ".602", ".470", "9.1", "5.5M", "apache-2.0"),
]


@pytest.mark.parametrize("width", [28, 40, 59, 72, 80, 120])
def test_table_fits_the_window_and_shows_every_cell(width: int):
    lines = table([HEAD, *ROWS], width, left=[7], signs=[" ", ">", "="])
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for row in (HEAD, *ROWS):
        for cell in row[1:]:
            assert re.search(rf"(?<!\S){re.escape(cell)}(?!\S)", text), cell
    blocks = text.split("\n\n")
    assert (len(blocks) == 1) == (width >= 72)
    for block in blocks:  # each begins with the names, so that no number is without its row
        assert [line[0] for line in block.splitlines()] == [" ", ">", "="]
        assert block.splitlines()[2][2:].startswith("shipped ViT"[:10])
    if width >= 120:
        assert ROWS[0][0] in text
    else:
        assert "…" in text and "vit_b" in text and ROWS[0][0][-4:] in text


def test_table_without_a_window_is_never_cut():
    (line,) = [line for line in table([HEAD, *ROWS], 0) if "vit" in line]
    assert ROWS[0][0] in line and line.endswith("apache-2.0")


def test_painted_cells_are_where_the_plain_ones_are(monkeypatch: pytest.MonkeyPatch):
    before = table([HEAD, *ROWS], 80)
    monkeypatch.setattr(sys, "stdout", Window())
    lines = table([HEAD, *ROWS], 80, styles={(1, 1): "score"})
    assert lines[1].count(ESCAPE) == 2 and "\x1b[1;32m.712\x1b[0m" in lines[1]
    assert [re.sub(r"\x1b\[[\d;]*m", "", line) for line in lines] == before


@pytest.mark.parametrize("width", [1, 2, 5, 6, 11])
def test_cut_texts_have_their_width_and_both_ends(width: int):
    found = cut("abcdefghij", width)
    assert len(found) == min(width, 10) and (width < 3 or (found[0] == "a" and found[-1] == "j"))


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("desc", ["s1", "checking a_source_with_a_very_long_name"])
def test_bars_begin_alike_and_fit(columns: int, desc: str):
    stream = Window()
    with progress(
        total=1000, desc=desc, file=stream, disable=False, ncols=columns, dynamic_ncols=False, mininterval=0
    ) as bar:
        for n in (1, 499, 500):
            bar.set_postfix_str("loss  3.211   123 img/s", refresh=False)
            bar.update(n)
    shown = [line for line in stream.getvalue().replace("\n", "\r").split("\r") if line.strip()]
    assert len(shown) >= 3 and max(map(len, shown)) <= columns
    assert len({line.index("%") for line in shown}) == 1, "the text before the bar has one length"
    assert "1000/1000" in shown[-1] or columns == 40
    assert BAR.startswith("{desc} ")


@pytest.mark.parametrize(("columns", "rows"), [(80, 0), (80, 1), (80, 24), (0, 0)])
def test_bars_are_shown_in_a_window_of_any_number_of_rows(columns: int, rows: int):
    code = "from guie.shown import progress; list(progress(range(9), 'packing', mininterval=0))"
    told = in_terminal([sys.executable, "-c", code], columns, rows)
    assert "packing" in told and max(map(len, re.split(r"[\r\n]+", told))) <= 80
    assert re.search(r"9/9 \d\d:\d\d<00:00\n", told), "the line is whole"


def test_long_lines_are_folded_on_a_terminal_alone(tmp_path: Path):
    code = (
        "from guie.own.photos import print_problems; "
        "print_problems([('shoes/' + 'long name ' * 3 + '.jpg', 'cannot be decoded: cut short')], 'left out')"
    )
    told = in_terminal([sys.executable, "-c", code], 60).splitlines()
    assert len(told) == 3 and max(map(len, told)) <= 60 + len("\x1b[33m\x1b[0m")
    assert told[2].removeprefix("\x1b[33m").startswith("      ")
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert len(done.stdout.splitlines()) == 2


def test_lines_are_folded_to_the_window_of_the_stream_that_they_go_to(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = "six words of text " * 4
    assert len(folded(text, "  ", Window()).splitlines()) == 2 and folded(text, "  ", io.StringIO()) == text


def test_hidden_files_are_named_last():
    import pandas as pd

    rows = [(".DS_Store", "hidden file"), ("._a.jpg", "hidden file"), ("a/.DS_Store", "hidden file"),
            ("notes.txt", "not an image"), ("z/broken.jpg", "truncated"), ("y/gone.jpg", "missing")]  # fmt: skip
    told = named(pd.DataFrame(rows, columns=["path", "reason"]), "; see x")
    assert told == ["y/gone.jpg: missing", "z/broken.jpg: truncated", ".DS_Store: hidden file", "and 3 more; see x"]
    assert named(pd.DataFrame(rows[:2], columns=["path", "reason"])) == [
        ".DS_Store: hidden file",
        "._a.jpg: hidden file",
    ]
    assert named(pd.DataFrame([], columns=["path", "reason"])) == []
