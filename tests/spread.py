"""Which tests run in one process, because they share costly fixtures: those of a file, and of the files of a row here.

xdist's own groups (--dist loadgroup, xdist 3.8) have no effect with pytest 9.2: xdist writes them into names that
pytest no longer reads.
"""

from xdist.scheduler import LoadScopeScheduling

TOGETHER = (  # one finished run for all
    (
        "tests/pipeline/test_whole_house.py",
        "tests/pipeline/test_notebooks.py",
        "tests/pipeline/test_full_disk.py",
    ),
)


def group_of(test: str) -> str:
    """The file of a test, or the first of the files with which it shares fixtures."""
    file = test.partition("::")[0]
    return next((files[0] for files in TOGETHER if file in files), file)


class ByFile(LoadScopeScheduling):
    """xdist's scheduler with other groups."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
