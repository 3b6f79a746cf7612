"""The README's picture of a report: its head and its ladder.

Needs Chromium, which opens 09_report/index.html of a finished run.

Run: python tests/benchmarks/report_picture.py artifacts/minibench
Writes tests/benchmarks/report.png (--out)
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image

from guie.run import FOLDERS, PROJECT

sys.path.insert(0, str(PROJECT / "tests"))

from chromium import CHROMIUM, Browser

WIDTH = 1060
END = "document.getElementById('ladder').getBoundingClientRect().bottom + scrollY"


def main() -> None:
    """Takes the picture."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", type=Path, help="the folder of a finished run, such as artifacts/minibench")
    p.add_argument("--out", type=Path, default=PROJECT / "tests/benchmarks/report.png")
    arguments = p.parse_args()
    page = arguments.run.resolve() / FOLDERS[9] / "index.html"
    if not page.is_file():
        sys.exit(f"{page} does not exist; guie report {arguments.run} writes it")
    if CHROMIUM is None:
        sys.exit("no Chromium on this machine: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(Path(folder))
        try:
            browser.open(page, width=WIDTH)
            browser.screenshot(arguments.out, x=0, y=0, width=WIDTH, height=round(browser.run(END)) + 4)
        finally:
            browser.close()
    with Image.open(arguments.out) as shot:
        shot.convert("RGB").quantize(256).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
