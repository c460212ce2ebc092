"""An adapter that learns a task, or what the original predicts, beside a compressed model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lrc.base.progress import SILENT, Progress
from lrc.base.record import Record, require
from lrc.base.threads import chunks, resolve_threads
from lrc.formats.hub import local_model
from lrc.models.base import Model
from lrc.models.opened import open_model, open_original
from lrc.models.sweep import sweep
from lrc.nn.packed import PackedLinear
from lrc.refine.adapted import Adapters, as_stored, layers_of, start, weight_size
from lrc.refine.adapter import Factors
from lrc.refine.backward import Backward
from lrc.refine.changed import OpenedPrograms
from lrc.refine.descent import descend
from lrc.refine.divergence import LiveTeacher
from lrc.refine.gradients import Place
from lrc.refine.opened import opened_matrix
from lrc.refine.task import Example, LabelLoss, batch_of, read_examples
from lrc.refine.tune import check_original, refuse_speech
from lrc.refine.vjp import Array
from lrc.run.text import Tokenizer

#: Bytes of decoded codes, and of values of a batch, that are kept instead of made again.
_CODES, _VALUES = 1 << 30, 3 << 29
#: Examples that go through the model together.
_TOGETHER = 4
Key = tuple[str, str]


@dataclass(frozen=True)
class LoraSpec(Record):
    """How an adapter learns.

    ``rank`` components a matrix, of the examples of the file ``task``, up to ``longest`` tokens
    each. One of ``held_out`` examples is held out, and decides which state is the result.
    ``passes`` over the others are made, ``batch`` examples a step. ``kl``: what the divergence from
    the original counts beside the labels.
    """

    task: str
    rank: int = 64
    longest: int = 512
    held_out: int = 10
    passes: int = 2
    batch: int = 8
    kl: float = 0.0
    checks: int = 4
    seed: int = 0

    def check(self) -> None:
        """Refuse values that are not allowed."""
        for name in ("rank", "longest", "held_out", "passes", "batch", "checks"):
            value = getattr(self, name)
            require(value >= 1, f"{name}={value} must be at least 1")
        require(0 <= self.kl < float("inf"), f"kl={self.kl} must be 0 or a positive number")
        require(self.seed >= 0, f"seed={self.seed} must be 0 or positive")


@dataclass(frozen=True)
class Adapter:
    """What was learned: factors in float16 by the matrix's name, and what came of it.

    ``before``, ``after``: loss a predicted token of examples that were held out, in nats.
    """

    factors: Mapping[str, Factors]
    before: float
    after: float
    steps: int
    rate: float
    seconds: float


def learn_adapter(
    folder: str | Path,
    against: str | Path,
    spec: LoraSpec,
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Adapter:
    """An adapter of the compressed model in ``folder``, which stays as it is.

    Parameters
    ----------
    folder, against : path
        Of the compressed model, and of the original it was made from.
    spec : LoraSpec
    threads : int, optional
        Never changes a bit.
    progress : Progress

    Raises
    ------
    LrcError
        For bad input.

    Notes
    -----
    Source: Hu et al. (2021), and CALDERA (2024), section 4.3, for learning components beside fixed
    codes. An adapter begins with what the first components of L R look at, and adds nothing.
    """
    began, folder = time.perf_counter(), local_model(folder)
    refuse_speech(folder)
    job = _Lesson.open(folder, Path(against), spec, resolve_threads(threads), progress)
    still = {key: np.zeros_like(x) for key, x in job.values.items()}
    found = descend(job, still, spec.checks, progress)
    return Adapter(
        job.factors(found.moves), found.before, found.after, found.steps, found.rate,
        time.perf_counter() - began,
    )  # fmt: skip


@dataclass(frozen=True)
class _Lesson:
    """A model, where its adapters lie, and examples with what the original makes of them."""

    model: Model
    teacher: Model
    spec: LoraSpec
    threads: int
    places: Mapping[Place, Mapping[tuple[int, int], str]]
    begin: Mapping[str, Factors]
    sizes: Mapping[str, float]
    examples: Sequence[Example]
    opened: OpenedPrograms

    @classmethod
    def open(
        cls, folder: Path, against: Path, spec: LoraSpec, threads: int, progress: Progress
    ) -> _Lesson:
        """Open both models, and read the examples."""
        check_original(folder, against)
        model, _ = open_model(folder)
        teacher, _ = open_original(against)
        examples = read_examples(
            Path(spec.task), Tokenizer.open(folder), min(spec.longest, model.context)
        )
        places: dict[Place, dict[tuple[int, int], str]] = {}
        begin: dict[str, Factors] = {}
        sizes: dict[str, float] = {}
        with progress.bar("opening", len(model.stacks[0]), "block") as advance:
            for part in range(len(model.stacks[0])):
                for (at, j), (name, layer) in layers_of(model, Place(0, part)).items():
                    if not isinstance(layer, PackedLinear):
                        continue
                    places.setdefault(Place(0, part), {})[at, j] = name
                    rng = np.random.default_rng([spec.seed, len(begin)])
                    now = opened_matrix(layer.matrix)
                    begin[name] = start(now, min(spec.rank, *now.shape), rng)
                    sizes[name] = weight_size(now)
                advance()
        return cls(model, teacher, spec, threads, places, begin, sizes, examples,
                   OpenedPrograms(_CODES))  # fmt: skip

    @cached_property
    def values(self) -> dict[Key, Array]:
        """All numbers that are learned."""
        return {
            (name, side): getattr(factors, side)
            for name, factors in self.begin.items()
            for side in ("down", "up")
        }

    def unit(self, key: Key) -> np.float32:
        """What a move of one is: as much as ``down`` has, and as changes weights by their size."""
        name, side = key
        down = self.begin[name].down
        size = float(np.sqrt(np.mean(down**2)))
        if side == "up":
            size = self.sizes[name] / (size * len(down) ** 0.5)
        return np.float32(size or 1.0)

    def factors(self, moves: Mapping[Key, Array]) -> dict[str, Factors]:
        """Adapters after moves, rounded to 16 bits."""
        now = {key: as_stored(x + self.unit(key) * moves[key]) for key, x in self.values.items()}
        return {name: Factors(now[name, "down"], now[name, "up"]) for name in self.begin}

    @cached_property
    def held_out(self) -> list[int]:
        """Examples that are not learned from: at least one."""
        return list(range(0, len(self.examples), self.spec.held_out))[: len(self.examples) - 1]

    @cached_property
    def batches(self) -> list[list[int]]:
        """The examples of every step, in an order drawn from the seed."""
        rng = np.random.default_rng(self.spec.seed)
        learnt = [i for i in range(len(self.examples)) if i not in set(self.held_out)]
        order = [[int(i) for i in rng.permutation(learnt)] for _ in range(self.spec.passes)]
        return [one[part] for one in order for part in chunks(len(one), self.spec.batch)]

    def gradient(self, moves: Mapping[Key, Array], which: Sequence[int]) -> dict[Key, Array]:
        """Of the loss of some examples, at moves."""
        parts, loss = self._parts(which)
        found = self._backward(moves).gradients(parts, loss).arrays
        return {
            (name, side): found[place][at][f"{j}.{side}"] * self.unit((name, side))
            for place, layers in self.places.items()
            for (at, j), name in layers.items()
            for side in ("down", "up")
        }

    def loss(self, moves: Mapping[Key, Array], which: Sequence[int]) -> float:
        """Mean loss of some examples, as stored."""
        with np.errstate(over="ignore", invalid="ignore"):  # of trials that go too far
            parts, loss = self._parts(which)
            return self._backward(moves).loss(parts, loss)

    def _parts(self, which: Sequence[int]) -> tuple[list[np.ndarray], LabelLoss]:
        """Examples of about equal length together, and their loss."""
        order = sorted(which, key=lambda i: (len(self.examples[i].ids), i))
        made = [
            batch_of([self.examples[i] for i in order[part]])
            for part in chunks(len(order), _TOGETHER)
        ]
        parts, labels = [ids for ids, _ in made], [found for _, found in made]
        predicted = sum(int((found >= 0).sum()) for found in labels)
        teacher = None
        if self.spec.kl:
            streams = sweep(self.teacher.as_stored(), parts, self.threads)
            teacher = LiveTeacher(self.teacher.head, streams, 1.0)
        return parts, LabelLoss(labels, 1 / predicted, teacher, self.spec.kl)

    def _backward(self, moves: Mapping[Key, Array]) -> Backward:
        programs = Adapters(self.places, self.factors(moves), self.opened)
        return Backward(self.model, programs, self.threads, keeps=_VALUES)
