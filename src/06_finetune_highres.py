"""Door 06: fine-tunes at a higher resolution from the weights of door 05, head first, then backbone.

Reads   03_packed/, 05_backbone/
Writes  06_highres/<stage>/: metrics.csv, final.safetensors, done.json
Run     python src/06_finetune_highres.py --recipe demo
The last line you should see: "next: python src/07_ensemble_and_pca.py ..."
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(6, __doc__, "guie.train.stage:train_phase", phase="highres"))
