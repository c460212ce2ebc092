"""Mixtures of experts in the blocks of a decoder: their tensors, sites and operations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from lrc.formats.view import View
from lrc.models.base import Site
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig
from lrc.models.decoder_tensors import SITES, linear_shapes, site_tensors
from lrc.models.tensors import Plain, Tensor
from lrc.nn.ops import STREAM, Add, Gate, Op
from lrc.nn.routing import Combine, Dispatch, Route, SigmoidGate

#: Sites of attention, and those of a feed-forward part without experts.
ATTENTION, DENSE = SITES[:2], SITES[2:]
#: What transformers calls a mixture where it has the experts of a block in one tensor.
_STACKED = "mlp"


@dataclass(frozen=True)
class ExpertNames:
    """What a family calls the tensors of a mixture.

    Attributes
    ----------
    mixture : str
        Before the names of the router, ``gate``, and of the experts, ``experts.I``.
    gate, up, down : str
        Layers of an expert.
    """

    mixture: str = "mlp"
    gate: str = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"


@dataclass(frozen=True)
class GatedPart:
    """A gated feed-forward part: names of its sites, keys of its layers, its inner width."""

    names: tuple[str, str]
    gate: str
    up: str
    down: str
    width: int

    @property
    def sites(self) -> tuple[Site, Site]:
        """Its two."""
        return (
            Site(self.names[0], (self.gate, self.up)),
            Site(self.names[1], (self.down,), writes=True),
        )

    def shapes(self, hidden: int) -> dict[str, tuple[int, int]]:
        """(m, n) of its layers."""
        wide = (self.width, hidden)
        return {self.gate: wide, self.up: wide, self.down: (hidden, self.width)}


@dataclass(frozen=True)
class Experts:
    """The experts of a block.

    Attributes
    ----------
    count, top : int
        How many there are, and how many compute a token.
    width : int
        Of their inner values.
    normalised : bool
        Whether the shares of those that compute a token sum to one; see `Route`.
    shared : int
        Inner width of one more expert, which computes every token and is weighted by a sigmoid; 0
        without.
    names : ExpertNames
    """

    count: int
    top: int
    width: int
    normalised: bool
    shared: int = 0
    names: ExpertNames = field(default_factory=ExpertNames)

    @property
    def router(self) -> str:
        """Key of the router's weight."""
        return f"{self.names.mixture}.gate"

    @property
    def shared_gate(self) -> str:
        """Key of the weight of the shared expert's sigmoid."""
        return f"{self.names.mixture}.shared_expert_gate"

    @cached_property
    def parts(self) -> tuple[GatedPart, ...]:
        """The experts; the shared one is the last."""
        each = [
            self._part((f"expert_input.{e}", f"expert_output.{e}"), f"experts.{e}", self.width)
            for e in range(self.count)
        ]
        names = ("shared_input", "shared_output")
        shared = [self._part(names, "shared_expert", self.shared)] if self.shared else []
        return (*each, *shared)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Two of each."""
        return tuple(site for part in self.parts for site in part.sites)

    def tensors(self, block: int, prefix: str, hidden: int) -> dict[str, Tensor]:
        """Every tensor of the mixture of a block, by name; ``prefix`` is that of the block."""
        names = dict.fromkeys((self.router, f"{_STACKED}.gate"))
        found = {
            f"{prefix}{self.router}.weight": Tensor(
                (self.count, hidden),
                Plain(block, self.router),
                tuple(View(f"{prefix}{name}.weight") for name in names),
            )
        }
        if self.shared:
            gate = Tensor((1, hidden), Plain(block, self.shared_gate))
            found[f"{prefix}{self.shared_gate}.weight"] = gate
        for index, part in enumerate(self.parts):
            layouts = self._layouts(prefix, part, index) if index < self.count else {}
            shapes = part.shapes(hidden)
            found |= site_tensors(block, prefix, part.sites, shapes, layouts=layouts)
        return found

    def _part(self, sites: tuple[str, str], key: str, width: int) -> GatedPart:
        names, prefix = self.names, f"{self.names.mixture}.{key}."
        return GatedPart(sites, prefix + names.gate, prefix + names.up, prefix + names.down, width)

    def _layouts(self, prefix: str, part: GatedPart, index: int) -> Mapping[str, tuple[View, ...]]:
        """An expert's matrices: one by one, or together with those of the others."""
        stack = f"{prefix}{_STACKED}.experts."
        stacked = {
            part.gate: View(f"{stack}gate_up_proj", index, rows=(0, part.width)),
            part.up: View(f"{stack}gate_up_proj", index, rows=(part.width, 2 * part.width)),
            part.down: View(f"{stack}down_proj", index),
        }
        return {key: (View(f"{prefix}{key}.weight"), view) for key, view in stacked.items()}


@dataclass(frozen=True)
class MoeConfig(DecoderConfig):
    """Shapes and constants of a decoder with experts; ``dense``: blocks that have none."""

    experts: Experts
    dense: frozenset[int]

    def sites(self, block: int) -> tuple[Site, ...]:
        """Sites of a block: those of attention, then of its feed-forward part."""
        return SITES if block in self.dense else self._sites

    def feed_forward(self, block: int, prefix: str) -> dict[str, Tensor]:
        """Tensors of the feed-forward part of a block, by name."""
        if block in self.dense:
            return site_tensors(block, prefix, DENSE, linear_shapes(self))
        return self.experts.tensors(block, prefix, self.hidden)

    @cached_property
    def _sites(self) -> tuple[Site, ...]:
        return (*ATTENTION, *self.experts.sites)


@dataclass(frozen=True)
class MoeBlock(DecoderBlock):
    """A block of Llama's kind, whose feed-forward part may be a mixture of experts."""

    config: MoeConfig

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those of attention, then of the feed-forward part."""
        return self.config.sites(self.index)

    def program(self) -> Sequence[Op]:
        """See the class."""
        if self.index in self.config.dense:
            return super().program()
        return (
            self.norm(self.norms[0], STREAM, "x"),
            *self.attention("x", "y"),
            Add("y"),
            self.norm(self.norms[1], STREAM, "x"),
            *self.mixture("x"),
        )

    def mixture(self, source: str) -> Iterator[Op]:
        """From a normalised stream to the residual stream: all sites after those of attention.

        What an expert makes is added to the stream at once, so that no two have to be kept.
        """
        experts = self.config.experts
        router = self.plain[experts.router]
        yield Route(router, source, "routing", experts.top, experts.normalised)
        site = len(ATTENTION)
        for expert in range(experts.count):
            dispatch = Dispatch(expert, source, "routing", "routed")
            yield dispatch
            yield from self.gated(site, "routed", dispatch)
            yield Combine("y", dispatch)
            site += 2
        if experts.shared:
            yield from self.gated(site, source)
            yield SigmoidGate(self.plain[experts.shared_gate], source, "y")
            yield Add("y")

    def gated(self, site: int, source: str, dispatch: Dispatch | None = None) -> Iterator[Op]:
        """A gated feed-forward part, which is two sites, from ``source`` to ``y``."""
        yield self.multiply(site, source, "gate", "up", dispatch=dispatch)
        yield Gate("gate", "up", self.config.activation)
        yield self.multiply(site + 1, "gate", "y", dispatch=dispatch)
