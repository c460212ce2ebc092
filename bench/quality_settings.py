"""Settings of `lrc compress` in one word each, and the ablations of one of them.

    e8p:2                        --codebook e8p --bits 2
    trellis12:3,rank=8           --codebook trellis12 --bits 3 --rank 8
    bpw:2.5   size:60MB          --target-bpw 2.5   --target-size 60MB
    preset:best                  --preset best
    default,mix=0                --mix 0
    e8p:2,decompose.tolerance=0  what only a configuration file can say, by its path there

Changes follow commas, as many as wanted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lrc.spec import CompressSpec, QuantSpec

TARGETS = {"bpw": "--target-bpw", "size": "--target-size", "preset": "--preset"}
#: Rows of the ablation: what is left out or added, and how.
CHANGES = (
    ("moments of the original alone", "streams=original"),
    ("no mixture of targets", "mix=0"),
    ("no repair of the residual stream", "repair=0"),
    ("moments not shrunk", "shrinkage=0"),
    ("no polish", "decompose.polish_sweeps=0"),
    ("scales not fitted again", "decompose.refit_scales=false"),
    ("rank 0", "rank=0"),
    ("rank 8", "rank=8"),
    ("rank 16", "rank=16"),
    ("rank 16, started at the weights", "rank=16,decompose.low_rank.start=weights"),
    ("rank 16, started at the error of Q", "rank=16,decompose.low_rank.start=error"),
    ("a third of the damping", "decompose.damping=0.003"),
    ("three times the damping", "decompose.damping=0.03"),
    ("errors weighed by the model's end", "metric=kl"),
    ("the same, rows alone", "metric=kl,metric.power=0"),
    ("the same, tokens alone", "metric=kl,metric.outputs=false"),
)


@dataclass(frozen=True)
class Setting:
    """One way to compress: ``text`` as given, options of the command, values of its config."""

    text: str
    family: str
    options: tuple[str, ...]
    config: dict[str, Any]

    @property
    def targetless(self) -> tuple[str, ...] | None:
        """The options without the budget that they meet; None where there is none."""
        if self.options[:1] not in ((TARGETS["bpw"],), (TARGETS["size"],)):
            return None
        return self.options[2:]


def parse(text: str) -> Setting:
    """Read one setting.

    Raises
    ------
    ValueError
        It is not of the form above.
    """
    head, *changes = text.split(",")
    name, _, value = head.partition(":")
    if not name or (name in TARGETS and not value):
        raise ValueError(f"setting {text!r} needs the form NAME:VALUE, such as e8p:2 or bpw:2.5")
    options: list[str] = []
    config: dict[str, Any] = {}
    if name in TARGETS:
        options += [TARGETS[name], value]
    elif name != "default":
        options += ["--codebook", name, *(("--bits", value) if value else ())]
    for change in changes:
        key, equals, given = change.partition("=")
        if not key or not equals:
            raise ValueError(f"setting {text!r}: {change!r} needs the form OPTION=VALUE")
        if "." in key:
            _set(config, key.split("."), given)
        else:
            options += [f"--{key}", given]
    family = "chosen for a target" if name in TARGETS else "e8p" if name[:3] == "e8p" else name
    return Setting(text, family, tuple(options), config)


def ablations(base: str) -> list[tuple[str, str]]:
    """Name and setting of every ablation of ``base`` (NAME:BITS) that this version can do.

    The other kind of codebook comes first: a trellis for a lattice and the reverse.
    """
    name, _, rest = base.partition(":")
    bits = int(rest.partition(",")[0])
    more = "".join("," + change for change in base.split(",")[1:])
    other = QuantSpec.plain(bits).codebook
    is_trellis = name.startswith(("trellis", "shuffle"))
    swapped = ("lattice", other) if is_trellis else ("trellis", QuantSpec.for_bits(bits).codebook)
    rows = [(f"{swapped[0]} for {name}", f"{swapped[1]}:{bits}{more}")]
    known = CompressSpec().to_dict()
    for what, change in CHANGES:
        path = change.partition("=")[0].split(".")
        if len(path) == 1 or path[1] in known[path[0]]:
            rows.append((what, f"{base},{change}"))
    return rows


def _set(config: dict[str, Any], path: list[str], text: str) -> None:
    for part in path[:-1]:
        config = config.setdefault(part, {})
    try:
        config[path[-1]] = json.loads(text)
    except ValueError:
        config[path[-1]] = text
