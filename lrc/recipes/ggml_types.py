"""Types of ggml for the matrices of a model, by names that users of llama.cpp know.

A plain type is that of every matrix. A mix gives more bits to values and to the second matrix of
the feed-forward part, in some blocks, as llama.cpp's quantizer does; where its K types do not fit
the rows it takes wider ones, and here those of the same bits stand for them
(:data:`lrc.codebooks.CODEBOOKS`, ``instead``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lrc.codebooks import CODEBOOKS, GGUF
from lrc.errors import SpecError
from lrc.spec import QuantSpec

#: The family of plain types.
_FAMILY = CODEBOOKS[GGUF].family


@dataclass(frozen=True)
class Mix:
    """Types of a mix: ``base`` unless ``more`` says otherwise.

    ``more`` is given the GGUF name of a matrix in its block, the block, and how many there are.
    """

    base: str
    more: Callable[[str, int, int], str | None]


def _ends_and_thirds(block: int, blocks: int) -> bool:
    """The first and last eighth of the blocks, and every third between."""
    eighth = blocks // 8
    return block < eighth or block >= 7 * blocks // 8 or (block - eighth) % 3 == 2


def _medium(wide: str) -> Callable[[str, int, int], str | None]:
    def more(name: str, block: int, blocks: int) -> str | None:
        some = name in ("attn_v", "ffn_down") and _ends_and_thirds(block, blocks)
        return wide if some else None

    return more


def _small(wide: str) -> Callable[[str, int, int], str | None]:
    def more(name: str, block: int, blocks: int) -> str | None:
        some = {"attn_v": 4, "ffn_down": blocks // 8}
        return wide if block < some.get(name, 0) else None

    return more


def _three_medium(name: str, block: int, blocks: int) -> str | None:
    if name == "ffn_down":
        if block < blocks // 16:
            return "q5_k"
        return "q4_k" if _ends_and_thirds(block, blocks) else None
    if name == "attn_v":
        return "q5_k" if block < 2 else "q4_k"
    return "q4_k" if name == "attn_output" else None


def _three_large(name: str, block: int, blocks: int) -> str | None:
    return "q5_k" if name in ("attn_v", "attn_output", "ffn_down") else None


def _two_medium(name: str, block: int, blocks: int) -> str | None:
    return {"attn_v": "q4_k", "attn_output": "q3_k", "ffn_down": "q3_k"}.get(name)


#: Mixes by the names that llama.cpp has for them; ``q2_k_m`` is what it calls Q2_K.
MIXES = {
    "q2_k_m": Mix("q2_k", _two_medium),
    "q3_k_m": Mix("q3_k", _three_medium),
    "q3_k_l": Mix("q3_k", _three_large),
    "q4_k_s": Mix("q4_k", _small("q5_k")),
    "q4_k_m": Mix("q4_k", _medium("q6_k")),
    "q5_k_s": Mix("q5_k", lambda name, block, blocks: None),
    "q5_k_m": Mix("q5_k", _medium("q6_k")),
}
#: Every plain type.
PLAIN = tuple(name for name, row in CODEBOOKS.items() if row.family == _FAMILY)


def is_type(name: str) -> bool:
    """Whether a plain type or a mix has this name, in any case."""
    return name.lower() in (*PLAIN, *MIXES)


def type_of(kind: str, name: str, block: int, blocks: int) -> QuantSpec:
    """How the matrix that GGUF calls ``name`` in its block is coded in a model of type ``kind``.

    Raises
    ------
    SpecError
        There is no such type.

    Examples
    --------
    >>> type_of("Q4_K_M", "attn_v", 0, 30).codebook, type_of("Q4_K_M", "attn_q", 0, 30).codebook
    ('q6_k', 'q4_k')
    """
    lower = kind.lower()
    if not is_type(lower):
        raise SpecError(
            f"type {kind!r} is unknown; use one of {', '.join((*PLAIN, *MIXES))}, or a GGUF file "
            "whose types are to be taken"
        )
    mix = MIXES.get(lower)
    codebook = lower if mix is None else mix.more(name, block, blocks) or mix.base
    return QuantSpec(codebook, CODEBOOKS[codebook].bits[0])
