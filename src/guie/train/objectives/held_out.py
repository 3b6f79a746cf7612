"""Training images that are held out from training, and how well a model orders them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from guie.train.objectives.clusters import k_means

RECALLS = (1, 2, 4, 8)
METRICS = (*(f"recall_at_{k}" for k in RECALLS), "nmi", "intra_distance", "inter_distance")
FEWEST = 4  # images of a class that holds out some: two held out, which find each other, and two that train


def choose_held_out(labels: Tensor, share: float, largest: int) -> Tensor:
    """Which images are held out, bool [n]: some of each class, drawn with torch's random generator.

    Each class gives at least two images or none, so that each held-out image has another one to find. Where that would
    be too many images, only some classes, drawn at random, give images.

    Args:
        labels: int64 [n].
        share: Of each class' images.
        largest: Images at most.

    Raises:
        ValueError: fewer than two classes have four images.
    """
    counts = torch.bincount(labels)
    classes = (counts >= FEWEST).nonzero()[:, 0]
    if len(classes) < 2:
        raise ValueError(
            f"Pads holds out images of at least two classes of {FEWEST} images or more, and the training images have "
            f"{len(classes)} such classes; take sources with more images per class, or another objective"
        )
    most = max(2 * 2, min(largest, int(share * len(labels))))
    most_of_class = max(2, most // len(classes))
    is_held_out = torch.zeros(len(labels), dtype=torch.bool)
    n_left = most
    for class_id in classes[torch.randperm(len(classes))].tolist():
        n_own = int(counts[class_id])
        n_taken = min(max(2, round(share * n_own)), most_of_class, n_own - 2)
        if n_taken > n_left:
            break
        own = (labels == class_id).nonzero()[:, 0]
        is_held_out[own[torch.randperm(n_own)[:n_taken]]] = True
        n_left -= n_taken
    return is_held_out


def measure(embeddings: Tensor, labels: Tensor) -> Tensor:
    """How well unit embeddings are ordered, float64 [7], in the order of `METRICS`.

    Recall@k is the share of images with one of their class among their k nearest. NMI compares the classes with as many
    clusters of k-means, which starts from the first image of each class: nothing is drawn, so that a change of the
    score is a change of the model. Intra is the mean distance within a class, inter that between class means.

    Args:
        embeddings: float [n, dim], of any length.
        labels: int64 [n], any numbers; each stands twice or more.
    """
    unit = F.normalize(embeddings.double())
    classes, of_row = labels.unique(return_inverse=True)
    is_same = of_row[:, None] == of_row
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    order = (unit @ unit.T).masked_fill(itself, -torch.inf).topk(min(RECALLS[-1], len(unit) - 1), dim=1).indices
    is_hit = is_same.gather(1, order).cumsum(dim=1) > 0
    recalls = [is_hit[:, min(k, is_hit.shape[1]) - 1].double().mean() for k in RECALLS]
    memberships = F.one_hot(of_row, len(classes)).double()
    means = memberships.T @ unit / memberships.sum(dim=0)[:, None]
    clusters = _clusters_from(unit, memberships.argmax(dim=0))  # of equal ones, the first
    apart = torch.cdist(unit, unit)
    between = torch.cdist(means, means)[~torch.eye(len(classes), dtype=torch.bool, device=unit.device)]
    values = [*recalls, mutual_information(of_row, clusters), apart[is_same & ~itself].mean(), between.mean()]
    return torch.stack(values)


def _clusters_from(unit: Tensor, starts: Tensor) -> Tensor:
    """Clusters of rows, int64 [n]; `starts`, int64 [n_clusters], are the rows where the centres start."""
    rows = unit.cpu().numpy()
    found = k_means(rows, len(starts), starts=rows[starts.cpu().numpy()])
    return torch.from_numpy(found).to(starts.device)


def mutual_information(one: Tensor, other: Tensor) -> Tensor:
    """Normalised mutual information of two labellings, int64 [n] each: over the mean of their entropies; 1 for two of
    one label."""
    joint = F.one_hot(one).double().T @ F.one_hot(other).double() / len(one)
    rows, columns = joint.sum(dim=1, keepdim=True), joint.sum(dim=0, keepdim=True)
    shared = torch.special.entr(rows).sum() + torch.special.entr(columns).sum() - torch.special.entr(joint).sum()
    mean_entropy = (torch.special.entr(rows).sum() + torch.special.entr(columns).sum()) / 2
    return torch.where(mean_entropy > 0, shared / mean_entropy.clamp_min(1e-300), torch.ones_like(shared))
