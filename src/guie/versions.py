"""Versions of the code whose results stay on the disk.

Raise one when the results of its code change: the digests of the doors hold them, so what the code before has made is
made again.
"""

DRAWING = 2  # from a seed to the pixels of the drawn world: guie.synthetic
MANIFESTS = (
    2  # the columns of a manifest, and what its sources make of their lists: guie.data.manifest, guie.data.sources
)
PACKING = 5  # from a raw file to a packed image: guie.data.shards, guie.data.resize
AUGMENTATION = 2  # from a packed image and a seed to a training image: guie.data.augment
EXTRACTION = 1  # from a packed image to the backbone's input: guie.embed.extract, guie.embed.views
