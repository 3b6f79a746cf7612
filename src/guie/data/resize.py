"""One way to resize, for packing, training and the oracle of the exported module."""

from __future__ import annotations

import numpy as np


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Antialiased bicubic, the same filter as at test time.

    torch's uint8 kernel is within 1 of PIL's at a third of the time: from 503x377 to 427x320 px in 1.4 ms, PIL in 4.5
    ms. It is imported at the first image that changes its size: door 03 does without where no image does.

    Args:
        image: uint8 [h, w, 3].
        height: Of the result.
        width: Of the result.

    Returns:
        uint8 [height, width, 3], a copy.

    Raises:
        ValueError: the image is not uint8 [h, w, 3].
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image is {image.dtype} {list(image.shape)}, must be uint8 [h, w, 3]; convert it to RGB")
    if image.shape[:2] == (height, width):
        return image.copy()
    import torch
    import torch.nn.functional as F

    pixels = torch.from_numpy(np.require(image, requirements=["C", "W"])).permute(2, 0, 1)[
        None
    ]  # torch takes no read-only array
    small = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True, align_corners=False)
    return np.ascontiguousarray(small[0].permute(1, 2, 0).numpy())
