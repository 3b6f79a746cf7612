"""Door 03: decodes every image once, makes it small and packs it.

So training never waits for a large or broken file. After a kill, the same
command continues with the first unfinished shard.

Reads   artifacts/<recipe>/02_balanced, and the raw images under --data-root
Writes  artifacts/<recipe>/03_packed/: shard_00000.tar ..., index.parquet (where
        each image lies), problems.parquet
Run     python data_prep/03_pack_images.py --recipe minibench --data-root DATA
Last line: next: python src/04_train_head.py ...
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(3, __doc__, "guie.data.packing:pack_images"))
