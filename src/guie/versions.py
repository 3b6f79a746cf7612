"""Versions of the code whose results stay on the disk.

Raise a version when the results of its code change. It is part of the doors' digests, so the doors make again what the
earlier code has made.
"""

DRAWING = 2  # from a seed to the pixels of the drawn world: guie.synthetic
MANIFESTS = 2  # from the lists of a data set to the columns of a manifest: guie.data.sources, guie.data.manifest
REDUCTION = 5  # from a raw file to small pixels: guie.data.image, guie.data.resize; raise PACKING with it
PACKING = 6  # from a raw file to a packed image: REDUCTION's code, guie.data.shards, guie.data.jpeg
AUGMENTATION = 2  # from a packed image and a seed to a training image: guie.data.augment
EXTRACTION = 1  # from a packed image to the backbone's input: guie.embed.extract, guie.embed.views
OF_WEIGHTS = {"augmentation": AUGMENTATION, "extraction": EXTRACTION}
CODE = "version of the code"  # the versions' name among the settings of a done-mark
