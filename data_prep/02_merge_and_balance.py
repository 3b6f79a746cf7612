"""Door 02: merges the data sets, holds classes back, balances the others.

The classes that are held back are for validation; the others are trained on.

Reads   artifacts/<recipe>/01_manifests
Writes  artifacts/<recipe>/02_balanced/: train.parquet, val.parquet,
        classes.parquet, licences.json, report.json, images_per_class.svg
        (the long tail of every source before and after balancing);
        unlabelled.parquet where a source has no labels
Run     python data_prep/02_merge_and_balance.py --recipe minibench
Last line: next: python data_prep/03_pack_images.py ...
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(2, __doc__, "guie.data.balance:merge_and_balance"))
