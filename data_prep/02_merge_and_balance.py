"""Door 02: merges the data sets, sets classes aside for validation, and balances the training classes.

Reads   artifacts/<recipe>/01_manifests
Writes  artifacts/<recipe>/02_balanced/train.parquet, val.parquet, classes.parquet, licences.json, report.json and
        images_per_class.svg (the long tail of every source before and after balancing)
Run     python data_prep/02_merge_and_balance.py --recipe minibench
Last line: next: python data_prep/03_pack_images.py ...
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(2, __doc__, "guie.data.balance:merge_and_balance"))
