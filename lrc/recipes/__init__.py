"""Methods of the literature by name: each is one value over what the solvers offer.

Every method here minimises tr((T - Ŵ) S (T - Ŵ)^T) for some statistic S of the inputs, some target
T and some structure Ŵ, so that a name stands for a choice of a few options. Where two papers come
to the same choice they have the same value: by Eckart and Young the optimum depends on S alone,
not on the root of S that a paper works with.
"""

from __future__ import annotations

from lrc.errors import SpecError
from lrc.recipes.alone import ALONE
from lrc.recipes.base import Recipe
from lrc.recipes.over_codes import OVER_CODES
from lrc.spec import CompressSpec

__all__ = ["ALONE", "OVER_CODES", "RECIPES", "Recipe", "with_recipe"]

RECIPES: dict[str, Recipe] = {**OVER_CODES, **ALONE}


def with_recipe(name: str, spec: CompressSpec) -> CompressSpec:
    """``spec`` with what the recipe ``name`` decides.

    Raises
    ------
    SpecError
        There is no recipe of this name.

    Examples
    --------
    >>> with_recipe("asvd", CompressSpec()).decompose.statistic
    'magnitude'
    """
    if name not in RECIPES:
        raise SpecError(f"recipe {name!r} is unknown; use one of {', '.join(RECIPES)}")
    return RECIPES[name].on(spec)
