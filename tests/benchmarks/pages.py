"""Paragraphs of the pages that the benchmarks write."""

import re
import textwrap

WIDTH = 120  # columns, as tests/contract/test_line_lengths.py holds it


def paragraph(text: str) -> str:
    """The text as one paragraph, broken at 120 columns. A command in `quotes` stays on one line.

    Args:
        text: Its line breaks and repeated spaces count as one space.
    """
    kept = re.sub(r"`[^`]+`", lambda command: command[0].replace(" ", "\0"), " ".join(text.split()))
    return textwrap.fill(kept, WIDTH, break_long_words=False, break_on_hyphens=False).replace("\0", " ")
