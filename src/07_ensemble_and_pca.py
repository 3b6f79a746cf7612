"""Door 07: embeds all images and scores each setting of the recipe.

Of each setting it takes every member and view, combines them, and reduces the
result to 64-d by PCA.

Reads   03_packed/, the stages of doors 04-06
Writes  07_embeddings/: scores.csv (one row a setting, dim_16 to dim_all are
        its mP@5 at other widths), dimensions.csv (of the final setting: the
        widths with intervals, and codes of each), the final setting's
        embeddings, ids, neighbours and pca.npz
Run     python src/07_ensemble_and_pca.py --recipe demo
Last line: next: python src/08_export_torchscript.py ...
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(7, __doc__, "guie.evaluate.ladder:score_ladder"))
