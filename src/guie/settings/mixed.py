"""Rows of the training schedule that train nothing: means of other rows' weights."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from guie.settings.fields import within
from guie.settings.names import PRETRAINED, check_row_name


@dataclass(frozen=True)
class Soup:
    """A row that trains nothing: the mean of the weights of other rows (4th place; Wortsman et al., ICML 2022).

    Attributes:
        name: Also the folder of its results.
        of: The rows, all of one shape.
        is_greedy: Starts with the row that scores best on validation and adds each other row that does not lower the
            score. Its validation score is then optimistic, because the choice was made by it.
    """

    name: str
    _: KW_ONLY
    of: tuple[str, ...]
    is_greedy: bool = False

    @property
    def shape_of(self) -> str:
        """The row that gives the weights their shape."""
        return self.of[0]

    @property
    def reads(self) -> tuple[str, ...]:
        """The rows whose weights are read."""
        return self.of

    @property
    def chosen_on_validation(self) -> str:
        """What of the weights was chosen by validation score, in words, or ''."""
        return "greedy soup" if self.is_greedy else ""

    def check(self, at: str) -> None:
        """Raises ValueError for a soup of nothing."""
        check_row_name(at, self.name)
        if not self.of:
            raise ValueError(f"{at}.of is empty; name the rows whose weights are averaged")


@dataclass(frozen=True)
class Interpolate:
    """A row that trains nothing: the backbone lies between the one that a row started from and the tuned one.

    Its backbone is (1 - share) * start + share * tuned, weight by weight. Neck and objective are the tuned row's.
    WiSE-FT (Wortsman et al., CVPR 2022, arXiv 2109.01903) reports that such weights keep most of the gain on the tuned
    domain and most of the accuracy on others. Its main networks, CLIP's vision transformers, have no batch norm. Here
    the statistics of batch norms are mixed as weights are; they are not computed anew. With share .5 a MobileNetV2
    gained nothing on a domain never seen (one seed, 128 px; tests/benchmarks/foreign.md).

    Attributes:
        name: Also the folder of its results.
        of: The tuned row.
        start: The other end: an earlier row with the same backbone, or `pretrained`, the backbone as the library or the
            file has it. Position embeddings are brought to the tuned row's image size.
        shares: The tuned weights' share. Of several the one with the best validation mP@5 is taken, of equal scores the
            first named. The row's validation score is then optimistic, because the choice was made by it.
    """

    name: str
    _: KW_ONLY
    of: str
    start: str = PRETRAINED
    shares: tuple[float, ...] = within((0.5,), low=0.0, high=1.0)

    @property
    def shape_of(self) -> str:
        """The row that gives the weights their shape."""
        return self.of

    @property
    def reads(self) -> tuple[str, ...]:
        """The rows whose weights are read; `pretrained` may be one."""
        return (self.of, self.start)

    @property
    def chosen_on_validation(self) -> str:
        """What of the weights was chosen by validation score, in words, or ''."""
        return "share" if len(self.shares) > 1 else ""

    def check(self, at: str) -> None:
        """Raises ValueError without a share, and for a row that lies between a row and itself."""
        check_row_name(at, self.name)
        if not self.shares:
            raise ValueError(f"{at}.shares is empty; name the tuned weights' share, such as (0.5,)")
        if self.of == self.start:
            raise ValueError(f"{at}.of and start are both {self.of!r}; name the tuned row and where it came from")
