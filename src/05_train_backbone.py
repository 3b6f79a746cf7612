"""Door 05: trains the backbone: the recipe's stages.backbone.

Mostly at a low learning rate, with the head of door 04 fixed.

Reads   03_packed/, 04_head/
Writes  05_backbone/<stage>/: metrics.csv, curve.csv, final.safetensors,
        done.json
Run     python src/05_train_backbone.py --recipe demo
Last line: next: python src/06_finetune_highres.py ...
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(5, __doc__, "guie.train.stage:train_phase", phase="backbone"))
