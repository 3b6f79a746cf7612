"""Door 09: writes one HTML page that shows the run.

It has scores, curves, data, neighbours, settings and times.

Reads   02_balanced/, 03_packed/, 04_head/ to 06_highres/, 07_embeddings/,
        08_export/, all finished; a file that was lost since shows as absent
Writes  09_report/: index.html, a single file that works offline and has at most
        some 10 MB, also for 20,000 queries; its charts for a paper, each as
        .svg and .png; neighbours.jpg; classes.csv, the scores of every class
Run     python src/09_report.py --recipe demo
        python src/09_report.py --recipe demo --compare artifacts/minibench
Last lines: the ladder as a table;
report: .../09_report/index.html (1.2 MB, 42 queries)
next: nothing; this was the last door
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(9, __doc__, "guie.report.page:write_report"))
