"""The options of ``lrc compress`` on what errors are weighed by."""

from __future__ import annotations

import argparse
import dataclasses

from lrc.errors import SpecError
from lrc.spec import CompressSpec, MetricSpec
from lrc.spec.metric import METRICS


def add_metric_options(group: argparse._ArgumentGroup) -> None:
    """Add them; one that is not given leaves the value of ``--config``, or else the default."""
    default = MetricSpec()
    group.add_argument(
        "--metric",
        choices=METRICS,
        help="what errors are weighed by: a matrix's inputs, or also what the divergence of the "
        f"model's predictions says of its outputs (default: {default.of})",
    )
    group.add_argument(
        "--metric-tokens",
        type=int,
        metavar="N",
        help="calibration tokens that the divergence's gradient is taken on, about (default: "
        f"{default.tokens})",
    )


def metric_from(args: argparse.Namespace, base: CompressSpec) -> MetricSpec:
    """What errors are weighed by, over what a recipe says.

    Raises
    ------
    SpecError
        Tokens are given to a metric that takes no gradients.
    """
    given = {"of": args.metric, "tokens": args.metric_tokens}
    given = {name: value for name, value in given.items() if value is not None}
    metric = dataclasses.replace(base.metric, **given)
    takes_gradients = metric.from_gradients or base.takes_gradients
    if args.metric_tokens is not None and not takes_gradients:
        raise SpecError("--metric-tokens needs --metric kl: no gradients are taken without it")
    return metric
