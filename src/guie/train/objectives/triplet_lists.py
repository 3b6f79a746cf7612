"""Triplets that are listed from pairs, and no more of an anchor than a bound.

Neither a cube of all triplets nor a matrix of positive by negative pairs is made: beside a memory these do not fit. A
batch of 256 with 100 classes and a memory of 10,000 has 2.6e8 triplets.
"""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def list_triplets(
    is_positive: Tensor, is_negative: Tensor, most: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """All triplets of a positive and a negative pair with one anchor, as int64 [n_triplets] each: anchors, positives,
    negatives.

    They are sorted. Of an anchor with more than `most`, so many different ones are drawn, each as likely as the others.

    Args:
        is_positive: bool [n, m].
        is_negative: bool [n, m].
        most: Triplets of an anchor.
        generator: On their device.
    """
    n, m = is_negative.shape
    anchors, positives = is_positive.nonzero(as_tuple=True)
    n_negatives = is_negative.sum(dim=1)
    pairs, ranks = take(anchors, n_negatives[anchors], n, most, generator)
    places = is_negative.flatten().nonzero()[:, 0]  # of all negative pairs, row by row
    before = n_negatives.cumsum(0) - n_negatives
    owners = anchors[pairs]
    return owners, positives[pairs], places[before[owners] + ranks] - owners * m


@torch.no_grad()
def list_within(
    distances: Tensor, is_positive: Tensor, is_negative: Tensor, width: float, most: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """All triplets whose negative is farther than the positive, but by no more than a width; see `list_triplets`.

    Args:
        distances: float [n, m].
        is_positive: bool [n, m].
        is_negative: bool [n, m].
        width: A distance.
        most: Triplets of an anchor.
        generator: On their device.
    """
    anchors, positives = is_positive.nonzero(as_tuple=True)
    place = places_of(anchors, len(distances))
    own = distances.new_zeros(len(distances), int(place.max()) + 1 if len(place) else 1)
    own[anchors, place] = distances[anchors, positives]
    ordered, columns = distances.masked_fill(~is_negative, torch.inf).sort(dim=1, stable=True)
    first = torch.searchsorted(ordered, own, right=True)[anchors, place]
    last = torch.searchsorted(ordered, own + width, right=True)[anchors, place]
    pairs, ranks = take(anchors, (last - first).clamp_min(0), len(distances), most, generator)
    return anchors[pairs], positives[pairs], columns[anchors[pairs], first[pairs] + ranks]


def places_of(anchors: Tensor, n: int) -> Tensor:
    """The place of each pair among those of its anchor, counted from 0, int64 [n_pairs].

    Args:
        anchors: int64 [n_pairs], sorted.
        n: Rows that may be anchors.
    """
    counts = torch.bincount(anchors, minlength=n)
    return torch.arange(len(anchors), device=anchors.device) - (counts.cumsum(0) - counts)[anchors]


def take(anchors: Tensor, counts: Tensor, n: int, most: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which triplets are taken: numbers of pairs, and which of its negatives each pair takes, int64 [n_triplets] both.

    An anchor's triplets are numbered pair by pair. Where there are too many, the numbers are cut into `most` spans, one
    number of each is drawn, and all are shifted round by one random number: so each is taken equally often, none twice.

    Args:
        anchors: int64 [n_pairs], sorted, the anchor of each positive pair.
        counts: int64 [n_pairs], negatives of each pair.
        n: Rows that may be anchors.
        most: Triplets of an anchor.
        generator: On their device.
    """
    totals = torch.zeros(n, dtype=torch.int64, device=anchors.device).index_add_(0, anchors, counts)[:, None]
    if not bool((totals > most).any()):
        pairs = torch.repeat_interleave(counts)
        return pairs, torch.arange(len(pairs), device=pairs.device) - (counts.cumsum(0) - counts)[pairs]
    taken = totals.clamp_max(most)
    spans = torch.arange(int(taken.max()), device=anchors.device).expand(n, -1)
    drawn = _spread(totals, taken.clamp_min(1), spans, generator).sort(dim=1).values
    numbers = torch.where(totals > most, drawn, spans)
    numbers = (totals.cumsum(0) - totals + numbers)[spans < taken]
    ends = counts.cumsum(0)
    pairs = torch.searchsorted(ends, numbers, right=True)
    return pairs, numbers - (ends - counts)[pairs]


def _spread(totals: Tensor, taken: Tensor, spans: Tensor, generator: torch.Generator) -> Tensor:
    """One number below the total of each span, shifted round, int64 [n, n_spans].

    Args:
        totals: int64 [n, 1].
        taken: int64 [n, 1], into how many spans the numbers below the total are cut.
        spans: int64 [n, n_spans], their numbers.
        generator: On their device.
    """
    noise = torch.rand(
        spans.shape[0], spans.shape[1] + 1, dtype=torch.float64, device=spans.device, generator=generator
    )
    first = spans * totals // taken
    width = (spans + 1) * totals // taken - first
    shift = (noise[:, -1:] * totals).long()
    return (first + (noise[:, :-1] * width).long() + shift) % totals.clamp_min(1)
