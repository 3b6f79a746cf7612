r"""Door 08: exports the final setting as one TorchScript file, and packs the zip.

Everything is inside the file: resize, normalisation, members, views and
projection. The file is loaded again and must agree with door 07 on some
validation images; otherwise no zip is written.

Reads   02_balanced/licences.json, 03_packed, 07_embeddings, the stages' weights
Writes  08_export/: saved_model.pt, submission.zip, card.json, parity/; a run in
        artifacts/ also submission/<recipe>/submission.zip
Run     python src/08_export_torchscript.py --recipe minibench
Check   python submission/check_submission.py \
            artifacts/minibench/08_export/submission.zip \
            --expected artifacts/minibench/08_export/parity
Last line: next: python src/09_report.py --recipe minibench
"""

import sys

from guie.door import open_door

if __name__ == "__main__":
    sys.exit(open_door(8, __doc__, "guie.export.submission:export_submission"))
