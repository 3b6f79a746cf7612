"""Door 04: trains the head (neck and objective) on features of a frozen backbone.

It trains the recipe's stages.head. Features are computed once and cached.

Reads   03_packed/, the pretrained backbone of the recipe
Writes  04_head/<stage>/: metrics.csv, curve.csv, final.safetensors, done.json;
        cache/: the backbone's features
Run     python src/04_train_head.py --recipe demo
Last line: next: python src/05_train_backbone.py ...
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(4, __doc__, "guie.train.stage:train_phase", phase="head"))
