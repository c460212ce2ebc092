"""Methods that keep L R alone: Ŵ = L R, for a part of the parameters (``--keep``) or a rank.

Embedding and head stay as they are, in 16 bits: these methods are compared by the linear layers.
"""

from __future__ import annotations

from typing import Any

from lrc.recipes.base import Recipe
from lrc.spec import FLAT_LLM, MODEGPT, DistilSpec, MetricSpec

#: Moments of the original model's inputs, or of those that the compressed layers before give.
_ORIGINAL = {"streams": "original"}
_PREFIX = {"streams": "mixed", "mix": 0.0, "repair": 0.0}


def _alone(statistic: str, **more: Any) -> dict[str, Any]:
    return {"recipe": "low-rank", "rotation": "none", "statistic": statistic, **more}


#: Moments that nothing was added to.
_PLAIN = {"shrinkage": 0.0}
_EXACT = {"factor_bits": 16}

_DISTILLED = DistilSpec(epochs=4)

_WHITENED = Recipe(
    "the best L R under the second moment of the original's inputs",
    "SVD-LLM, arXiv 2403.07378; DRONE, NeurIPS 2021; Swift-SVD, arXiv 2604.01609",
    _alone("moment"),
    _EXACT,
    {**_ORIGINAL, **_PLAIN},
    table_bits=16,
)

ALONE: dict[str, Recipe] = {
    "low-rank": Recipe(
        "L R alone, with 4-bit factors, under the moments of both streams",
        "CALDERA, arXiv 2405.18886, without Q",
        {"recipe": "low-rank"},
    ),
    "svd": Recipe(
        "the best L R of the weights themselves; looks at no activations",
        "Eckart and Young, 1936",
        _alone("identity"),
        _EXACT,
        _ORIGINAL,
        table_bits=16,
    ),
    "asvd": Recipe(
        "the best L R of weights whose columns are scaled by the root of the mean input magnitude",
        "ASVD, arXiv 2312.05821, at alpha 1/2, with equal ranks",
        _alone("magnitude"),
        _EXACT,
        _ORIGINAL,
        table_bits=16,
    ),
    "fwsvd": Recipe(
        "the best L R of weights whose columns are scaled by the root of their Fisher information",
        "FWSVD, arXiv 2207.00112, with probes of the model's own predictions",
        _alone("fisher"),
        _EXACT,
        _ORIGINAL,
        table_bits=16,
    ),
    "gfwsvd": Recipe(
        "the best L R under the second moments of inputs and of gradients at the outputs",
        "GFWSVD, arXiv 2505.17974, with moments of inputs and gradients for the Kronecker factors",
        _alone("moment"),
        _EXACT,
        {**_ORIGINAL, **_PLAIN},
        table_bits=16,
        metric=MetricSpec("kl", power=0.0),
    ),
    "svd-llm": _WHITENED,
    "drone": _WHITENED,
    "swift-svd": _WHITENED,
    "lord": Recipe(
        "the best L R of the outputs less their mean, which a bias of each layer makes up for",
        "LORD, arXiv 2309.14021",
        _alone("moment"),
        _EXACT,
        {**_ORIGINAL, **_PLAIN},
        table_bits=16,
        bias=True,
    ),
    "rom": Recipe(
        "the best L R of the last blocks under the second moment of the compressed prefix's inputs",
        "ROM, arXiv 2312.07046",
        _alone("moment"),
        _EXACT,
        {**_PREFIX, **_PLAIN},
        table_bits=16,
        ranks="last-blocks",
    ),
    "svd-llm-2": Recipe(
        "svd-llm with ranks by what the matrices of a kind lose",
        "SVD-LLM V2, arXiv 2503.12340",
        _alone("moment"),
        _EXACT,
        {**_ORIGINAL, **_PLAIN},
        table_bits=16,
        ranks="loss-of-kind",
    ),
    "basis-sharing": Recipe(
        "svd-llm with one basis R for matrices of a kind in two neighbouring blocks; those that "
        "write to the residual stream, and those of experts, have their own",
        "Basis Sharing, arXiv 2410.03765, with coefficients fitted to each block's own inputs",
        _alone("moment"),
        _EXACT,
        {**_ORIGINAL, **_PLAIN},
        table_bits=16,
        basis_blocks=2,
    ),
    "modegpt": Recipe(
        "fewer hidden units, refitted, and fewer channels of heads' values, queries and keys, both "
        "matrices of a pair together; where a norm, a bias or an expert parts them, svd-llm",
        "MoDeGPT, arXiv 2408.09632, with equal parts of every block",
        _alone("moment"),
        _EXACT,
        {**_ORIGINAL, **_PLAIN},
        table_bits=16,
        pairs=MODEGPT,
    ),
    "flat-llm": Recipe(
        "fewer hidden units, refitted, and the principal channels of heads' values; queries and "
        "keys stay, what they keep is taken from the others; where a bias or an expert parts a "
        "pair, svd-llm",
        "FLAT-LLM, arXiv 2505.23966, with equal parts of every block",
        _alone("moment"),
        _EXACT,
        {**_ORIGINAL, **_PLAIN},
        table_bits=16,
        pairs=FLAT_LLM,
    ),
    "welore": Recipe(
        "svd with ranks by one threshold on singular values; what is not of low rank stays dense",
        "WeLore, arXiv 2407.11239",
        _alone("identity"),
        _EXACT,
        _ORIGINAL,
        table_bits=16,
        ranks="threshold",
    ),
    "lillama": Recipe(
        "L R that starts at the best for both streams, then learns what the original's blocks give",
        "Lillama, arXiv 2412.16719, with our start and equal ranks",
        _alone("moment"),
        _EXACT,
        distil=_DISTILLED,
        table_bits=16,
    ),
    "lillama-svd": Recipe(
        "L R that starts at the weights alone, then learns what the original's blocks give",
        "Lillama, arXiv 2412.16719, with its own start and equal ranks",
        _alone("identity"),
        _EXACT,
        {"mix": 0.0, "repair": 0.0},
        distil=_DISTILLED,
        table_bits=16,
    ),
    "dobi-svd": Recipe(
        "the best L R of the outputs, with 8-bit factors",
        "Dobi-SVD, arXiv 2502.02723: its update and storage, with equal ranks",
        _alone("moment"),
        {"factor_bits": 8},
        {**_ORIGINAL, **_PLAIN},
        table_bits=16,
    ),
}
