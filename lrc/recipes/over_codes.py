"""Methods that keep coarse codes, most of them with L R over them: Ŵ = Q + L R."""

from __future__ import annotations

from typing import Any

from lrc.recipes.base import Recipe
from lrc.spec import QuantSpec

_ORIGINAL = {"streams": "original", "shrinkage": 0.0}
_PREFIX = {"streams": "mixed", "mix": 0.0, "repair": 0.0, "shrinkage": 0.0}


def _once(statistic: str, rounding: str = "nearest", **more: Any) -> dict[str, Any]:
    """Q once, then L R of its error."""
    return {
        "recipe": "corrected",
        "rotation": "none",
        "statistic": statistic,
        "rounding": rounding,
        "first": "codes",
        "iterations": 1,
        **more,
    }


#: Integers with a scale a group, numbers with a common exponent, and normal quantiles.
_INTEGERS, _EXPONENTS = QuantSpec("uniform", 4, 64), QuantSpec("bfp", 4)
_QUANTILES = QuantSpec("lloyd-max", 4, 64)


def _factors(rank: int, bits: int) -> dict[str, Any]:
    return {"rank": rank, "factor_bits": bits}


OVER_CODES: dict[str, Recipe] = {
    "caldera": Recipe(
        "Q by LDLQ and L R by regression in turn, from the best of three starts",
        "CALDERA, arXiv 2405.18886, with the starts of SRR and ODLRI",
        {"recipe": "caldera"},
    ),
    "ldlq": Recipe(
        "Q by LDLQ alone",
        "QuIP, arXiv 2307.13304; GPTQ, arXiv 2210.17323",
        {"recipe": "ldlq"},
    ),
    "round-to-nearest": Recipe(
        "Q to nearest alone", "the simplest baseline", {"recipe": "round-to-nearest"}
    ),
    "odlri": Recipe(
        "caldera from the leading directions of the inputs",
        "ODLRI, arXiv 2506.02077",
        {"recipe": "caldera"},
        {"start": "inputs"},
    ),
    "srr": Recipe(
        "caldera from the weights in the metric of the inputs",
        "SRR, arXiv 2602.02001",
        {"recipe": "caldera"},
        {"start": "weights"},
    ),
    "lorc": Recipe(
        "nearest Q, then the best L R of its error; looks at no activations",
        "LoRC of ZeroQuant-V2, arXiv 2303.08302",
        _once("identity"),
        _factors(32, 8),
        _ORIGINAL,
        _INTEGERS,
    ),
    "lqer": Recipe(
        "nearest Q in blocks with a common exponent, then the best L R of its error",
        "LQER, arXiv 2402.02446",
        _once("identity"),
        _factors(32, 8),
        _ORIGINAL,
        _EXPONENTS,
    ),
    "l2qer": Recipe(
        "lqer with the error weighed by the mean input magnitudes",
        "L2QER, arXiv 2402.02446",
        _once("magnitude-squared"),
        _factors(32, 8),
        _ORIGINAL,
        _EXPONENTS,
    ),
    "qera-approx": Recipe(
        "nearest Q, then the best L R of its error under the diagonal of the second moment",
        "QERA, arXiv 2410.06040",
        _once("rms"),
        _factors(32, 16),
        _ORIGINAL,
        _EXPONENTS,
    ),
    "qera": Recipe(
        "nearest Q, then the best L R of its error under the second moment",
        "QERA, arXiv 2410.06040, exact",
        _once("moment"),
        _factors(32, 16),
        _ORIGINAL,
        _EXPONENTS,
    ),
    "eora": Recipe(
        "Q by LDLQ, then the best L R of its error under the moment of the compressed prefix",
        "EoRA, arXiv 2410.21271",
        _once("moment", "feedback"),
        _factors(32, 16),
        _PREFIX,
        _INTEGERS,
    ),
    "cloq": Recipe(
        "Q by LDLQ, then the best L R of its error under the original's moment",
        "CLoQ, arXiv 2501.18475",
        _once("moment", "feedback"),
        _factors(32, 16),
        _ORIGINAL,
        _INTEGERS,
    ),
    "slim": Recipe(
        "nearest Q, then the best L R of its error under the diagonal of the second moment",
        "SLiM, arXiv 2410.09615, without sparsity",
        _once("rms"),
        _factors(32, 16),
        _ORIGINAL,
        _INTEGERS,
    ),
    "loftq": Recipe(
        "nearest Q and the best L R of its error in turn, five times, on the weights alone",
        "LoftQ, arXiv 2310.08659",
        _once("identity", iterations=5),
        _factors(32, 16),
        _ORIGINAL,
        _QUANTILES,
    ),
    "lq-lora": Recipe(
        "L R of the weights first, then nearest Q of the rest, in turn while it helps, rows and "
        "columns scaled by the root of their Fisher information",
        "LQ-LoRA, arXiv 2311.12023, with equal bits unless a target chooses them",
        _once("fisher-two-sided", first="factors", iterations=20),
        _factors(64, 16),
        _ORIGINAL,
        _QUANTILES,
    ),
    "svdquant": Recipe(
        "L R of the weights first, then Q of the rest, in turn while it helps",
        "SVDQuant, arXiv 2411.05007: its order, with weights scaled by input magnitudes",
        _once("magnitude", first="factors", iterations=20),
        _factors(32, 16),
        _ORIGINAL,
        _INTEGERS,
    ),
}
