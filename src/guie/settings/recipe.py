"""A whole recipe: the tree of settings, and the rules between its sections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from guie.settings.data import Data
from guie.settings.embed import Embed, Export, Member, Setting
from guie.settings.fields import check, nearest, within
from guie.settings.fit import FitWords, check_joint_space
from guie.settings.mixed import Interpolate, Soup
from guie.settings.mixing import Part, check_interpolation, check_soup
from guie.settings.model import Model
from guie.settings.names import PRETRAINED, check_earlier, check_name
from guie.settings.neck import shape_of
from guie.settings.plain import plain, plain_at
from guie.settings.sampling import PerClass
from guie.settings.stage import HEAD, Row, Stage, Stages


@dataclass(frozen=True)
class Recipe:
    """A whole run, from raw data to the submission."""

    name: str
    data: Data
    model: Model
    stages: Stages
    embed: Embed
    export: Export = Export()
    seed: int = within(0, low=0, high=2**31 - 1)

    def row(self, name: str) -> Row:
        """The row called `name`; ValueError, with the nearest name, if there is none."""
        for row in self.stages:
            if row.name == name:
                return row
        raise ValueError(f"no stage {name!r}; {nearest(name, [row.name for row in self.stages])}")

    def stage(self, name: str) -> Stage:
        """The stage that gave the weights of row `name` their shape."""
        row = self.row(name)
        return row if isinstance(row, Stage) else self.stage(row.shape_of)

    def parent(self, row: Row) -> str:
        """The row whose weights `row` starts from; of one that trains nothing, the row that gives their shape."""
        if not isinstance(row, Stage):
            return row.shape_of
        if row.start.of:
            return row.start.of
        names = [other.name for other in self.stages]
        index = names.index(row.name)
        return names[index - 1] if index else PRETRAINED

    def ancestors(self, name: str) -> list[str]:
        """The rows from which the weights of row `name` come, the nearest first."""
        found = [self.parent(self.row(name))]
        while found[-1] != PRETRAINED:
            found.append(self.parent(self.row(found[-1])))
        return found[:-1]

    def behind(self, names: Iterable[str], has_teachers: bool = True) -> set[str]:
        """The rows of these names and all rows on which their weights depend.

        These are the rows that they start from, that are averaged and that teach them, those behind these, and so on.

        Args:
            names: `pretrained` counts for nothing.
            has_teachers: Without, only rows that weights are taken from: a teacher gives none.
        """
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name != PRETRAINED and name not in found:
                found.add(name)
                row = self.row(name)
                waiting += [self.parent(row), *(row.reads if has_teachers or not isinstance(row, Stage) else ())]
        return found

    def model_of(self, name: str) -> Model:
        """The backbone of a row: its own, else that of its nearest ancestor that has one, else the recipe's."""
        while name != PRETRAINED:
            row = self.row(name)
            if isinstance(row, Stage) and row.start.model:
                return row.start.model
            name = self.parent(row)
        return self.model

    def chosen_on_validation(self, setting: Setting) -> tuple[str, ...]:
        """Which choices of a setting were made by the validation images' scores, in the rows' order.

        Returns:
            `the setting`, `STAGE: best epoch`, `SOUP: greedy soup`, `INTERPOLATION: share`.
        """
        behind = self.behind(member.stage for member in setting.members)
        reasons = ["the setting"] if setting.is_chosen_on_validation else []
        for row in self.stages:
            is_reported = self.stage(row.name).left_out is None  # else it was chosen by training classes
            if row.name in behind and is_reported and (chosen := row.chosen_on_validation):
                reasons.append(f"{row.name}: {chosen}")
        return tuple(reasons)

    @property
    def models(self) -> tuple[Model, ...]:
        """All backbones, the recipe's first; those that stand side by side one by one."""
        own = [stage.start.model for stage in self.stages.trained if stage.start.model]
        return tuple(dict.fromkeys(model for wanted in (self.model, *own) for model in wanted.each))

    def seen_sources(self, stage: Stage) -> set[str]:
        """The data sets whose images a stage's objective sees; they decide its classes. Sets without labels count only
        if the objective needs no labels."""
        hidden = {*stage.retain.generic, *(self.data.names_of_unlabelled if stage.objective.needs_labels else ())}
        return set(stage.sources or self.data.names_of_trained) - hidden

    def validate(self) -> Recipe:
        """Returns itself. Raises ValueError with path, value and remedy at the first field that cannot be."""
        check(self)
        return self

    def digest(self, *reads: str, **versions: int) -> str:
        """SHA-256 of the fields at the named paths, or of the whole recipe without any, and of versions of code.

        Args:
            *reads: `data.sources`, `seed`, `stages.NAME`; a row comes with its parent's name, which may follow from its
                place.
            **versions: Versions of the code that computes something from these fields.
        """
        values = self.values_of(reads) if reads else plain(self)
        values |= {"versions": versions} if versions else {}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def values_of(self, reads: Iterable[str]) -> dict[str, Any]:
        """The fields at paths such as `digest` takes, as JSON has them, by path."""
        return {path: self._value(path) for path in reads}

    def _value(self, path: str) -> Any:
        section, _, name = path.partition(".")
        if section == "stages" and name and "." not in name:
            row = self.row(name)
            return {**plain(row, is_choice=True), "parent": self.parent(row)}
        return plain_at(self, path)

    def to_json(self) -> str:
        """The recipe as indented JSON; where a field may hold settings of several classes, `kind` names the class."""
        return json.dumps(plain(self), indent=2)

    def check(self, at: str) -> None:
        """Raises ValueError where sections contradict each other."""
        check_name("name", self.name)
        names: list[str] = []
        for row in self.stages:
            match row:
                case Soup():
                    self._check_soup(row, names)
                case Interpolate():
                    self._check_interpolation(row, names)
                case _:
                    self._check_sources(row)
                    self._check_teachers(row, names)
                    self._check_start(row, names)
            names.append(row.name)
        for setting in self.embed.settings:
            self._check_combination(setting)
            self._check_fit_on(setting)
        self.embed.check_final([self._width(member) for member in self.embed.final.members])

    def _check_sources(self, stage: Stage) -> None:
        at = f"stages.{stage.name}"
        if stage.neck.has_size and self.data.pack_square:
            raise ValueError(f"{at}.neck.has_size needs data.pack_square off, or all images have one size")
        names = [*self.data.names_of_trained, *self.data.names_of_unlabelled]
        for name in stage.sources:
            if name not in names:
                raise ValueError(f"{at}.sources names {name!r}, which is no source to train on; {nearest(name, names)}")
        self._check_unlabelled(stage)
        own = stage.sources or self.data.names_of_trained
        for name in stage.retain.generic:
            if name in names and name not in own:
                raise ValueError(
                    f"{at}.retain.generic names {name!r}, on which the stage does not train: name it in {at}.sources, "
                    f"too, beside {', '.join(own)}"
                )
            if name not in own:
                raise ValueError(
                    f"{at}.retain.generic names {name!r}, which is no separate data set; {nearest(name, own)}"
                )
        if not self.seen_sources(stage):
            if set(own) <= set(stage.retain.generic):
                raise ValueError(f"{at}.retain.generic names all data sets of the stage; the objective needs another")
            raise ValueError(
                f"{at}.sources: terms that need labels see no image: each data set has no labels or is in "
                "retain.generic; name one with labels"
            )

    def _check_unlabelled(self, stage: Stage) -> None:
        """Raises ValueError where a stage takes images without labels, and the objective or the sampling needs them.

        Those of a generic set are drawn as the others are, though the objective does not see them.
        """
        at, sampling = f"stages.{stage.name}.sources names", stage.sampling
        for name in stage.sources:
            if name not in self.data.names_of_unlabelled:
                continue
            if not stage.objective.may_lack_labels and name not in stage.retain.generic:
                kind = type(stage.objective).__name__
                raise ValueError(
                    f"{at} {name!r}. Its images have no labels, and {kind} needs "
                    + (
                        "the labels of all images, since it works on the whole training set; take a Sum of KeepCosines "
                        "and an objective that needs only the labels of a batch"
                        if stage.objective.needs_all_labels
                        else "labels; KeepCosines needs none: write Sum with both as terms"
                    )
                )
            if stage.trains == "objective" and name not in stage.retain.generic:
                raise ValueError(
                    f"{at} {name!r}. Its images have no labels, and trains='objective' trains class centres, which "
                    "need labels; leave the source out, or take trains='head'"
                )
            if isinstance(sampling, PerClass) or sampling.power != 0.0:
                raise ValueError(
                    f"{at} {name!r}. Its images have no labels, and {type(sampling).__name__} with power "
                    f"{sampling.power:g} draws by class: they would count as one class; take "
                    "sampling=Weighted(power=0.0)"
                )

    def _check_teachers(self, stage: Stage, names: list[str]) -> None:
        for name in stage.reads:
            check_earlier(f"stages.{stage.name}.objective is taught by", name, [PRETRAINED, *names])

    def _check_start(self, stage: Stage, names: list[str]) -> None:
        at, parent = f"stages.{stage.name}", self.parent(stage)
        check_earlier(f"{at}.start.of is", parent, [PRETRAINED, *names])
        if not stage.is_backbone_frozen and self.model_of(stage.name).beside:
            raise ValueError(
                f"{at}.trains is {stage.trains!r}, but its backbone is several side by side (model.beside), which stay "
                "frozen; take 'head', 'neck' or 'objective'"
            )
        model = stage.start.model
        if model and parent != PRETRAINED:
            raise ValueError(
                f"{at}.start.model: only a stage that starts from {PRETRAINED!r} may name a backbone; this one takes "
                f"the backbone of {parent}"
            )
        if parent == PRETRAINED:
            if set(stage.start.fresh) != set(HEAD):
                raise ValueError(
                    f"{at}.start.fresh is {stage.start.fresh}; a stage that starts from the pretrained backbone has a "
                    "fresh neck and a "
                    f"fresh objective: fresh={HEAD}"
                )
            return
        self._check_parts(stage, self.stage(parent), parent)

    def _check_parts(self, stage: Stage, before: Stage, parent: str) -> None:
        """What is loaded must have the shape of what the stage builds."""
        at, fresh, remedy = f"stages.{stage.name}", stage.start.fresh, "name start.fresh=('objective',)"
        needed = HEAD if before.neck.dim != stage.neck.dim else ("neck",)
        if shape_of(before.neck) != shape_of(stage.neck) and not set(needed) <= set(fresh):
            raise ValueError(f"{at}.neck is another than {parent}'s; name start.fresh={HEAD}")
        if "objective" in fresh:
            return
        if self.seen_sources(before) != self.seen_sources(stage):
            raise ValueError(f"{at}.sources are others than {parent}'s, and so are the classes; {remedy}")
        if before.left_out != stage.left_out:
            raise ValueError(f"{at}.left_out is another than {parent}'s, and so are the classes; {remedy}")
        own, other = stage.objective.state_shape(), before.objective.state_shape()
        if own != other:
            text = f"{at}.objective has weights of another shape than {parent}'s ({_worded(own)}, not {_worded(other)})"
            raise ValueError(f"{text}; {remedy}")

    def _check_soup(self, soup: Soup, names: list[str]) -> None:
        for name in soup.of:
            check_earlier(f"stages.{soup.name}.of names", name, names)
        stages = {name: self.stage(name) for name in soup.of}
        check_soup(
            soup,
            [Part(name, stages[name], self.model_of(name), self.seen_sources(stages[name])) for name in soup.of],
        )

    def _check_interpolation(self, row: Interpolate, names: list[str]) -> None:
        check_earlier(f"stages.{row.name}.of is", row.of, names)
        check_earlier(f"stages.{row.name}.start is", row.start, [PRETRAINED, *names])
        check_interpolation(row, self.model_of(row.start), self.model_of(row.of))

    def _check_combination(self, setting: Setting) -> None:
        at = f"embed.settings.{setting.name}"
        widths = {self._width(member) or self.model_of(member.stage) for member in setting.members}
        if setting.combine == "mean" and len(widths) > 1:
            raise ValueError(
                f"{at}.combine is 'mean', which needs members of one output width; these have "
                f"{', '.join(map(str, widths))}: use 'concatenate'"
            )
        dims = [self._width(member) for member in setting.members]
        width = dims[0] if setting.combine == "mean" else sum(dims)
        if all(dims) and setting.pca_dim > width:
            raise ValueError(f"{at}.pca_dim is {setting.pca_dim}, more than the {width} numbers that its members give")

    def _check_fit_on(self, setting: Setting) -> None:
        self.embed.check_fit_on(setting, [*self.data.names_of_trained, *self.data.names_of_unlabelled])
        if setting.pca_dim and any(isinstance(entry, FitWords) for entry in self.embed.fit_on_of(setting)):
            at = f"embed.settings.{setting.name}"
            for member in setting.members:
                check_joint_space(at, member.stage, member.output, self.model_of(member.stage), self._mover(member))

    def _mover(self, member: Member) -> str:
        """The first row that trained the member's backbone; '' where none did."""
        behind = self.behind([member.stage], has_teachers=False)
        moved = (row for row in self.stages.trained if row.name in behind and not row.is_backbone_frozen)
        return next((row.name for row in moved), "")

    def _width(self, member: Member) -> int:
        """Numbers of a member's output; 0 for a feature, whose width the backbone tells."""
        return self.stage(member.stage).neck.dim if member.output == "embedding" else 0


def _worded(state_shape: tuple[Any, ...]) -> str:
    """`centers 3`, of what `Kind.state_shape` gives."""
    return " ".join(map(str, state_shape))
