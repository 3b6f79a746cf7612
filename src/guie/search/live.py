"""The index behind the page: it is opened again when an update has replaced it, while requests go on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from guie.errors import message
from guie.search.embedder import Embedder, load_again
from guie.search.store import HEADER, Index, open_index

LOOK_S = 0.5  # between two checks of the header
RETRY_S = 5.0  # before an index that could not be opened is tried again; loading a model may take as long
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """An index and its model, as one request sees them.

    Attributes:
        index: The index.
        embedder: The model that made it.
    """

    index: Index
    embedder: Embedder

    @cached_property
    def ids(self) -> np.ndarray:
        """uint64 for each row: a hash of its path. It stays the same when other photos come and go."""
        return pd.util.hash_array(self.index.table["path"].to_numpy(object), categorize=False)

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.ids)

    def id_of(self, row: int) -> str:
        """The id of a row, 16 hex digits."""
        return f"{int(self.ids[row]):016x}"

    def row_of(self, photo_id: str) -> int | None:
        """The row of an id; None if there is none."""
        try:
            wanted = np.uint64(int(photo_id, 16))
        except (ValueError, OverflowError):
            return None
        at = int(np.searchsorted(self.ids, wanted, sorter=self._order))
        if at == len(self.ids) or self.ids[self._order[at]] != wanted:
            return None
        return int(self._order[at])


class LiveIndex:
    """Gives the newest index that can be read.

    Args:
        index: The index that is open.
        embedder: Its model.
        device: Where models compute.
        clock: Gives the time in seconds; tests replace it.
    """

    def __init__(
        self, index: Index, embedder: Embedder, device: str = "cpu", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Starts with an open index."""
        self.place: Path = index.place
        self.problem = ""
        self._device = device
        self._clock = clock
        self._shown = Shown(index, embedder)
        self._state = self._look()
        self._looked = clock()
        self._failed: tuple[int, int] | None = None  # the state that could not be opened
        self._tried = 0.0  # the time of that attempt
        self._lock = threading.Lock()

    def shown(self) -> Shown:
        """The index and its model now. While one request opens a new index, others go on with the old one."""
        if self._clock() - self._looked > LOOK_S and self._lock.acquire(blocking=False):
            try:
                self._looked = self._clock()
                self._keep_up(self._look())
            finally:
                self._lock.release()
        return self._shown

    def _keep_up(self, state: tuple[int, int] | None) -> None:
        """Opens what is on the disk, if it is new. After a failure, the same file is tried again every `RETRY_S`."""
        if state == self._state:
            self.problem = ""
            return
        if self.problem and state == self._failed and self._clock() - self._tried < RETRY_S:
            return
        try:
            index = open_index(self.place)
            before = self._shown
            is_same_model = index.header.model.key == before.embedder.model.key
            embedder = before.embedder if is_same_model else load_again(index.header.model, self._device)
        except Exception as error:  # any kind: torch raises its own. The page reports it and shows the old index
            self._failed, self._tried = state, self._clock()
            self.problem = f"the index on the disk cannot be opened: {message(error) or type(error).__name__}"
            log.warning("%s", self.problem)
            return
        self._shown = Shown(index, embedder)
        self._state = state
        self.problem = ""
        log.info("the index was replaced: %d photos", len(index))

    def _look(self) -> tuple[int, int] | None:
        try:
            status = (self.place / HEADER).stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino
