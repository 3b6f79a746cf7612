"""Door 06: trains at a higher resolution: the recipe's stages.highres.

Head and backbone go on from the weights of door 05.

Reads   03_packed/, 05_backbone/
Writes  06_highres/<stage>/: metrics.csv, curve.csv, final.safetensors,
        done.json
Run     python src/06_finetune_highres.py --recipe demo
Last line: next: python src/07_ensemble_and_pca.py ...
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(6, __doc__, "guie.train.stage:train_phase", phase="highres"))
