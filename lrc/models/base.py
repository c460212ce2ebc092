"""What a model is to everything else: stacks of blocks, whose sites feed linear layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from lrc.models.source import Array, Ids, Weight, WeightSource
from lrc.models.tensors import Tensors
from lrc.nn.execution import PLAIN, Execution

if TYPE_CHECKING:
    from lrc.models.opening import Opening
    from lrc.nn.cache import KVCache
    from lrc.nn.engine.engines import Engines
    from lrc.nn.linear import Linear
    from lrc.nn.ops import Multiply, Op, Pass, Values
    from lrc.nn.rope import Positions


@dataclass(frozen=True)
class Site:
    """A place in a block whose activations feed one or more linear layers.

    Sites that are alike, as those of experts, have one name, with a point and a number each.
    ``writes``: what comes out is added to the residual stream.
    """

    name: str
    linears: tuple[str, ...]
    writes: bool = False


class Block(Protocol):
    """One block, run site by site or at once; it only reads itself, so threads may share it."""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Its sites, in the order in which they are passed."""
        ...

    @property
    def linears(self) -> Mapping[str, Linear]:
        """Its linear layers, by key."""
        ...

    def layers_of(self, site_index: int) -> Multiply:
        """The linear layers of a site, as the operation that they are."""
        ...

    def enter(self, given: Values, at: Pass) -> dict[str, Array]:
        """Values before the first site, from the residual stream `STREAM` (B, T, hidden)."""
        ...

    def step(self, site_index: int, values: Values, at: Pass) -> dict[str, Array]:
        """Apply the linears of one site and all that lies before the next site.

        Parameters
        ----------
        site_index : int
            Index into ``sites``.
        values : mapping
            Those before the site, by name; they stay as they are.
        at : Pass

        Returns
        -------
        dict
            The values before the next site, the residual stream among them: those given, where
            nothing changed them. After the last site there is no other.
        """
        ...

    def __call__(
        self,
        h: Array,
        positions: Positions,
        cache: KVCache | None = None,
        execution: Execution = PLAIN,
        *,
        given: Values = MappingProxyType({}),
    ) -> Array:
        """Residual stream after the block, (B, T, hidden); ``given`` is what else it finds."""
        ...

    def ops(self) -> tuple[Op, ...]:
        """What the block does, as data: compiled loops may run it in its place."""
        ...

    def with_linears(self, new: Mapping[str, Linear]) -> Block:
        """Return the same block with some linears replaced.

        Raises
        ------
        SpecError
            When a key is none of the block's linears.
        """
        ...


class Stack(Protocol):
    """Blocks that one residual stream runs through, and what lies before and after them."""

    def __len__(self) -> int:
        """Number of blocks."""
        ...

    @property
    def first(self) -> int:
        """Place of its first block among those of all stacks of the model."""
        ...

    def start(self, inputs: NDArray[Any], first: int = 0) -> Array:
        """Residual stream (B, T, hidden) before the first block, from token ids (B, T).

        A stack that hears takes features (B, bands, frames).

        ``first`` is the position of the first of them.
        """
        ...

    def opening(self, inputs: NDArray[Any], first: int = 0) -> Opening:
        """What `start` does, as data."""
        ...

    def load_block(self, index: int, *, later: bool = False) -> Block:
        """Read block ``index`` from the source; nothing of it is kept.

        ``later``: matrices of a dense checkpoint are read when they are first looked at.
        """
        ...

    def linears(self, index: int) -> Mapping[str, str]:
        """Names of the tensors of the linear layers of block ``index``, by key."""
        ...

    def finish(self, h: Array, execution: Execution = PLAIN) -> Array:
        """Logits (..., vocab) of the residual stream (..., hidden) after the last block."""
        ...

    def tail(self) -> tuple[Op, ...]:
        """What `finish` does, as data, to the value `LOGITS`."""
        ...

    def with_tables(self, tables: Mapping[str, Weight]) -> Stack:
        """Return the same stack with other tables, by role; a tied head follows the embedding."""
        ...


@runtime_checkable
class Model(Protocol):
    """A model over a weight source; weights are read when they are first needed."""

    @property
    def source(self) -> WeightSource:
        """Where weights come from, under the names that the model reads."""
        ...

    @property
    def tensors(self) -> Tensors:
        """What the tensors are."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of tensors that are stored and not read."""
        ...

    @property
    def stacks(self) -> tuple[Stack, ...]:
        """The stacks; later ones may read what earlier ones give."""
        ...

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        ...

    @property
    def context(self) -> int:
        """Most tokens of a sequence."""
        ...

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def bos_id(self) -> int | None:
        """The token that begins texts, where the configuration names one."""
        ...

    def as_stored(self) -> Model:
        """The same model with matrices left as they are on disk, widened tile by tile in use.

        It takes half the memory where weights are of 16 bits, and more time on few tokens. A
        packed model is returned as it is: its matrices stay packed anyway.
        """
        ...

    def release(self) -> None:
        """Forget the weights that were kept; they are read again when next needed."""
        ...

    def check_ids(self, ids: Ids) -> None:
        """Refuse token ids outside the vocabulary: SpecError with both ranges."""
        ...

    def check_length(self, tokens: int) -> None:
        """Refuse sequences longer than the model's context: SpecError with both lengths."""
        ...

    def embed(self, ids: Ids, first: int = 0) -> Array:
        """Residual stream (B, T, hidden) before the first block; see `Stack.start`."""
        ...

    def hidden(self, ids: Ids, cache: KVCache | None = None, execution: Execution = PLAIN) -> Array:
        """Residual stream after the last block, (B, T, hidden), for (B, T) token ids.

        With a cache, the ids continue what the cache holds, and are added to it.
        """
        ...

    def head(self, h: Array, execution: Execution = PLAIN) -> Array:
        """Logits (..., vocab) of the residual stream (..., hidden): final norm, then head."""
        ...

    def logits(self, ids: Ids, cache: KVCache | None = None) -> Array:
        """Logits (B, T, vocab) float32 of (B, T) token ids; see `hidden` for the cache."""
        ...

    def new_cache(self, batch: int, max_length: int) -> KVCache:
        """Make an empty cache for ``batch`` sequences of up to ``max_length`` tokens."""
        ...

    def engines(self) -> Engines:
        """What computes packed models fast; made once and kept."""
        ...


class Family(Protocol):
    """A model family: what MODELS holds for a ``model_type``."""

    def declared(self, config: Mapping[str, Any]) -> Tensors:
        """Every tensor of a checkpoint with this ``config.json``.

        Raises
        ------
        FormatError
            When a field is missing or is not what its name says.
        UnsupportedModelError
            When a field asks for something that is not computed here.
        """
        ...

    def open(self, source: WeightSource) -> Model:
        """Make the model of a source.

        Raises
        ------
        FormatError
            Also when a tensor is missing or is not what the configuration implies.
        UnsupportedModelError
            Also when a tensor asks for something that is not computed here.
        """
        ...
