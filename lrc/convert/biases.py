"""What other programs have to be told of biases that compression gave a model."""

from __future__ import annotations

from typing import Any

from lrc.errors import UnsupportedModelError
from lrc.models import declared
from lrc.models.tensors import Tensors

#: Switches of configurations; some families have one, or two.
_SWITCHES = ({"attention_bias": True, "mlp_bias": True}, {"use_bias": True})


def config_with_biases(config: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """A model's ``config.json``, and where biases were added one by which it has them.

    Raises
    ------
    UnsupportedModelError
        None does: its linear layers have biases that the family has no place for.
    """
    if not tensors.added:
        return config
    for switches in _SWITCHES:
        tried = {**config, **switches}
        if switches.keys() <= config.keys() and set(declared(tried).read) == set(tensors.read):
            return tried
    raise UnsupportedModelError(
        f"the model's linear layers have biases, and models of type {config.get('model_type')} "
        "have no place for them in other programs; compress without biases to export it"
    )
