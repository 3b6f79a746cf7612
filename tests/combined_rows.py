"""What a setting combines, in memory in place of `guie.embed.ensemble.Combined`."""

import numpy as np


class Rows:
    """Combined outputs that are in memory."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values.astype(np.float32), values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.values[rows]

    def whole(self) -> np.ndarray:
        return self.values
