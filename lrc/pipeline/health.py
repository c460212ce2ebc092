"""What a reader should know of a compression whose inputs were out of the ordinary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lrc.models.base import Model
from lrc.models.tensors import weight_of

#: ||W - W'||_F / ||W||_F from which a matrix no longer resembles the original's. Two bits leave
#: about 0.3, and what makes up for errors before it may double that.
_FAR = 2.0


def health_warnings(
    model: Model, records: Mapping[str, Mapping[str, Any]], dropped: int, tokens: int | None
) -> Iterator[str]:
    """Lines for the report.

    Parameters
    ----------
    model : Model
    records : mapping
        Of the matrices, by name.
    dropped : int
        Inputs that were left out because they were not finite.
    tokens : int or None
        Of the calibration text; None where moments are not of text alone.
    """
    if dropped:
        yield f"{dropped} activations were not finite and left out"
    widest = max(model.tensors.shape(weight_of(name))[1] for name in model.tensors.matrices)
    if tokens is not None and tokens < widest:
        yield (
            f"calibrated on {tokens} tokens, and matrices have up to {widest} inputs: most of what "
            "they may see was not seen; give more text"
        )
    unseen = [name for name, of in records.items() if of.get("routed_tokens") == 0]
    if unseen:
        yield (
            f"no token was routed to {len(unseen)} matrices of experts, {unseen[0]} the first: "
            "they are fitted to the tokens of others; more text may reach them"
        )
    far = [name for name, of in records.items() if of.get("frobenius_error", 0.0) > _FAR]
    if far:
        most = max(records[name]["frobenius_error"] for name in far)
        yield (
            f"{len(far)} matrices are far from the original's, by up to {most:.3g} times its size, "
            f"{far[0]} the first: they make up for errors before them on too little text, or on "
            "inputs some of which dwarf the others; more text, or --mix 0 --repair 0, keeps them "
            "near"
        )


def input_notes(zeros: int, inputs: int) -> tuple[str, ...]:
    """What the record of a matrix says of inputs that were 0 in every token."""
    if not zeros:
        return ()
    return (
        f"{zeros} of {inputs} inputs were 0 throughout the text: their columns are merely kept "
        "near the original's",
    )
