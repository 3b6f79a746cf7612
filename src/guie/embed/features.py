"""Cached features of the packed images, shared by training, validation and door 07."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from accelerate import Accelerator

from guie.data.packed import PackedImages
from guie.done import outputs_digest
from guie.embed.extract import Change, FeatureRequest, digest_of_backbone, digest_of_rows, extract, precision_on
from guie.embed.halves import Halves
from guie.embed.joined import Joined
from guie.model.backbone import Backbone, parts_of
from guie.run import Run
from guie.settings.model import Model

Stored = np.ndarray | Halves | Joined  # features in the cache, float32 [n, d] where they are read by rows


@dataclass(frozen=True)
class Encoder:
    """A backbone at one resolution.

    Attributes:
        backbone: On the accelerator's device.
        model: The settings that it was built from.
        image_px: Side of the square that it sees.
        patch_stride: Pixels from one patch of a transformer to the next; 0 is the patch's side.
        digest: Digest of its weights when this encoder was made.
        parts: If several backbones stand side by side in this one, an encoder for each of them; otherwise empty.
    """

    backbone: Backbone
    model: Model
    image_px: int
    patch_stride: int
    digest: str
    parts: tuple[Encoder, ...] = ()

    @classmethod
    def of(cls, backbone: Backbone, model: Model, image_px: int, patch_stride: int = 0) -> Encoder:
        """An encoder with the backbone's current weights. After a training step its digest is out of date: make a new
        one."""
        if not model.beside:
            return cls(backbone, model, image_px, patch_stride, digest_of_backbone(backbone))
        pairs = zip(parts_of(backbone), model.each, strict=True)
        parts = tuple(cls.of(part, own, image_px, patch_stride) for part, own in pairs)
        return cls(backbone, model, image_px, patch_stride, " ".join(part.digest for part in parts), parts)


class FeatureStore:
    """Cached features of a run's packed images, in the precision that the recipe asks for."""

    def __init__(self, run: Run, packed: PackedImages, accelerator: Accelerator) -> None:
        """Features of `packed`, extracted by all processes together."""
        self.run, self.packed, self.accelerator = run, packed, accelerator
        self.pack = outputs_digest(run.folder(3))
        self.precision = precision_on(accelerator.device, run.recipe.embed.precision)

    def get(
        self,
        encoder: Encoder,
        view: str,
        rows: np.ndarray,
        change: Change | None = None,
        other_views: Sequence[str] = (),
    ) -> Stored:
        """Features, float32 [n_rows, feature_dim], memory-mapped. Those that are not in the cache are extracted now.

        Backbones that stand side by side are extracted one after the other. So a setting that uses one of them alone
        finds its features in the cache.

        Args:
            encoder: The backbone.
            view: One of VIEWS; with a `change`, a name that belongs to this change alone.
            rows: int64 [n_rows], rows of the pack.
            change: Alters each image, given its row; a pure function.
            other_views: Views that will be needed next. They are extracted in the same pass, so that each image is
                decoded once.
        """
        if encoder.parts:
            return Joined([self.get(part, view, rows, change, other_views) for part in encoder.parts])
        batch_size = self.run.recipe.embed.batch_size
        request = self._request(encoder, view, rows)
        cache, backbone = self.run.cache, encoder.backbone
        return extract(cache, request, backbone, self.packed, rows, self.accelerator, batch_size, change, other_views)

    def cached(self, encoder: Encoder, view: str, rows: np.ndarray) -> frozenset[str]:
        """The keys of these features that are in the cache now; backbones side by side have one each."""
        if encoder.parts:
            return frozenset(key for part in encoder.parts for key in self.cached(part, view, rows))
        key = self._request(encoder, view, rows).key
        return frozenset((key,) if (self.run.cache / f"{key}.npy").is_file() else ())

    def forget(self, encoder: Encoder, view: str, rows: np.ndarray, but: frozenset[str] = frozenset()) -> None:
        """Deletes features that are not needed again. All processes must call it.

        Args:
            encoder: The backbone.
            view: As for `get`.
            rows: As for `get`.
            but: Keys of features to keep, from `cached`. Only the keys of process 0 are used.
        """
        for part in encoder.parts:
            self.forget(part, view, rows, but)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process and not encoder.parts:
            key = self._request(encoder, view, rows).key
            for ending in (".json", ".npy") if key not in but else ():
                (self.run.cache / f"{key}{ending}").unlink()
        # without this, another process could still see a deleted file when the same backbone is scored again
        self.accelerator.wait_for_everyone()

    def _request(self, encoder: Encoder, view: str, rows: np.ndarray) -> FeatureRequest:
        return FeatureRequest(
            self.pack,
            encoder.digest,
            encoder.model,
            encoder.image_px,
            view,
            digest_of_rows(rows),
            encoder.patch_stride,
            self.precision,
            self.run.recipe.embed.storage,
        )
