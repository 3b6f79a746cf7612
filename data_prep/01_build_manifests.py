"""Door 01: lists the images of every data set and checks that they are there.

Reads   the raw data sets under --data-root, as the recipe's data.sources name
        them (recipes demo and tiny first draw their images)
Writes  artifacts/<recipe>/01_manifests/<source>.parquet, and problems.parquet:
        images that are missing or broken
Run     python data_prep/01_build_manifests.py --recipe minibench --data-root DATA
Last line: next: python data_prep/02_merge_and_balance.py ...
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(1, __doc__, "guie.data.build:build_manifests"))
