"""What the demo compresses to, and how much work it takes for that on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lrc import codebooks
from lrc.spec import CalibrationSpec, CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec
from lrc.spec.presets import EFFORTS

#: Minutes that everything is planned to take, from the start to the answers.
MINUTES = 8.0
#: Bits at which the demo's model still answers; at 2 it does not.
BITS = 4
#: Weights that share a scale where they are plainly rounded.
ROUNDED_GROUP = 64
#: Efforts to choose from: compiling the search of the last one takes too long to find out about it.
CHOICES = tuple(EFFORTS)[:-1]
#: Seconds for what is not counted: files, compilation, answers.
_REST_SECONDS = 75.0


def demo_plan(original: Path, threads: int | None, began: float, evaluated: int) -> dict[str, Any]:
    """Choose an effort for the minutes that are left.

    Parameters
    ----------
    original : Path
    threads : int or None
    began : float
        When the demo began, of `time.perf_counter`.
    evaluated : int
        Tokens that each of three models will be evaluated on.

    Returns
    -------
    dict
        ``effort``, ``spec``, ``seconds`` expected from now on, and whether that ``fits``.
    """
    from lrc.models.opened import open_original
    from lrc.pipeline.plan import pass_products, plan

    model, _ = open_original(original)
    made = plan(
        model,
        {name: demo_spec(name) for name in CHOICES},
        60 * MINUTES - _REST_SECONDS - (time.perf_counter() - began),
        beside=pass_products(model, 3 * evaluated),
        threads=threads,
    )
    return {
        "effort": made.name,
        "spec": made.spec.to_dict(),
        "seconds": made.seconds + _REST_SECONDS,
        "fits": made.fits,
        "multiplications_per_second": made.speeds.multiplications,
        "solved_weights_per_second": made.speeds.weights,
    }


def demo_spec(effort: str) -> CompressSpec:
    """The parameters of an effort, at the demo's width and without a low-rank part.

    In matrices as narrow as these its bits are better spent elsewhere.
    """
    spec = EFFORTS[effort].spec(BITS)
    return CompressSpec(
        decompose=DecomposeSpec(
            quant=spec.decompose.quant,
            low_rank=LowRankSpec(0),
            polish_sweeps=spec.decompose.polish_sweeps,
        ),
        calibration=spec.calibration,
    )


def rounded_spec(spec: CompressSpec) -> CompressSpec:
    """Plain rounding to the bits of ``spec``: to the nearest of evenly spaced values.

    `ROUNDED_GROUP` weights share a scale, which takes a quarter of a bit more than ``spec``: with
    one a row the scale of least error cuts off large weights, which alone ruins the model.
    Tables have the bits that they have there.
    """
    bits, (embed_bits, head_bits) = spec.decompose.quant.bits, spec.table_bits()
    return CompressSpec(
        decompose=DecomposeSpec(
            recipe="round-to-nearest",
            quant=QuantSpec(codebooks.TABLES, bits, ROUNDED_GROUP),
            low_rank=LowRankSpec(0),
            rotation="none",
        ),
        calibration=CalibrationSpec(streams="original", nsamples=1),
        embed_bits=embed_bits,
        head_bits=head_bits,
    )
