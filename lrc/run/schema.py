"""Texts that are JSON of a schema: tokens that cannot come next are out of question.

The grammar is that of the package llguidance, which knows what tokens spell and what a schema
allows after them; between tokens of JSON it takes one blank after commas and colons, or none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.strict_json import parse_object
from lrc.errors import FormatError, LrcError, SpecError
from lrc.run.text import Tokenizer

#: Any JSON object.
ANY_OBJECT: Mapping[str, Any] = {"type": "object"}
#: How what stands between values may be written.
_BETWEEN = {"whitespace_flexible": False, "item_separator": ", ?", "key_separator": ": ?"}


class JsonGrammars:
    """Makes grammars for the tokens of one model.

    Parameters
    ----------
    tokenizer : Tokenizer
        With ids that end a text.
    vocab_size : int
        Of the model; may be more than the tokenizer has.

    Raises
    ------
    LrcError
        The package llguidance is not installed.
    SpecError
        It does not know such a tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        try:
            import llguidance
        except ImportError as error:
            raise LrcError(
                "JSON by a schema needs the package llguidance; install it with "
                "pip install 'lrc-llm[schema]'"
            ) from error
        ends = [i for i in tokenizer.eos_ids if i < vocab_size]
        if not ends:
            raise SpecError("JSON by a schema needs a token that ends texts; this model has none")
        self._package, self._vocab_size = llguidance, vocab_size
        try:
            self._tokens = llguidance.LLTokenizer(tokenizer.backend.to_str(), eos_token=ends)
        except Exception as error:  # whatever the package finds wrong with it
            raise SpecError(f"JSON by a schema: {_line(error)} (in the tokenizer)") from error

    def grammar(self, schema: Mapping[str, Any] | str) -> Grammar:
        """The grammar of a JSON schema, an object or its text.

        Raises
        ------
        SpecError
            It is no JSON object, or asks for what is not known.
        """
        if not isinstance(schema, str):
            try:
                schema = json.dumps(schema, allow_nan=False)
            except (TypeError, ValueError, RecursionError) as error:
                raise SpecError(f"the JSON schema is no JSON: {_line(error)}") from error
        try:
            parse_object(schema.encode("utf-8", "replace"), "the JSON schema", unique=False)
        except FormatError as error:
            raise SpecError(str(error)) from error
        matcher = self._package.LLMatcher
        try:
            rules = matcher.grammar_from_json_schema(schema, overrides=_BETWEEN)
            failed, found = matcher.validate_grammar_with_warnings(rules, self._tokens)
        except Exception as error:
            raise SpecError(f"the JSON schema cannot be used: {_line(error)}") from error
        if failed:
            raise SpecError(f"the JSON schema cannot be used: {_line(found[0])}")
        return Grammar(matcher(self._tokens, rules, log_level=0), self._vocab_size)


class Grammar:
    """What a schema allows; any number of texts may begin from it.

    Parameters
    ----------
    matcher : llguidance.LLMatcher
        At the beginning.
    vocab_size : int
    """

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size

    def begin(self) -> Constraint:
        """The grammar at the beginning of a text."""
        return Constraint(self._matcher.deep_copy(), self._vocab_size)


class Constraint:
    """Which tokens may come next in one text.

    Parameters
    ----------
    matcher : llguidance.LLMatcher
        Of this text alone.
    vocab_size : int
    """

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher, self._vocab_size = matcher, vocab_size

    def allowed(self) -> NDArray[np.bool_]:
        """Whether each token (vocab,) may come next.

        Raises
        ------
        SpecError
            None may, or the grammar has become too large.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        found = np.unpackbits(bits, bitorder="little")[: self._vocab_size].astype(np.bool_)
        if self._matcher.is_error() or not found.any():
            why = _line(self._matcher.get_error()) or "no token spells what has to come next"
            raise SpecError(f"the text cannot go on by the JSON schema: {why}")
        return np.pad(found, (0, self._vocab_size - len(found)))

    def take(self, token: int) -> None:
        """Go on behind a token, which was allowed."""
        self._matcher.consume_token(token)

    @property
    def is_whole(self) -> bool:
        """Whether the text may end here."""
        return bool(self._matcher.is_accepting())

    @property
    def is_over(self) -> bool:
        """Whether nothing but the end may follow."""
        return bool(self._matcher.is_stopped())


def read_schema(path: Path) -> str:
    """The text of a file with a JSON schema.

    Raises
    ------
    SpecError
        It cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"cannot read the JSON schema {path}: {_line(error)}") from error


def _line(error: object) -> str:
    """What happened, in one line."""
    return " ".join(str(error).split())[:300]
