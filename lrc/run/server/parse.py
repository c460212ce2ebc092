"""Bodies of requests to texts that are asked for, checked key by key."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrc.base.strict_json import parse_object
from lrc.errors import LrcError, SpecError
from lrc.run.load import LoadedModel
from lrc.run.sampler import Sampler
from lrc.run.schema import Grammar
from lrc.run.server.fields import Fields
from lrc.run.server.jobs import Ask
from lrc.run.server.messages import read_messages, read_tools
from lrc.run.server.options import ServeOptions
from lrc.run.server.response_format import read_format

#: Most likeliest tokens that are told at each place, and most stop strings.
LIKELIEST, STOPS = 20, 16
#: Tokens of a completion unless told: OpenAI's number.
COMPLETION_TOKENS = 16
#: Keys that change nothing here.
_HARMLESS = (
    *("model", "user", "store", "metadata", "service_tier", "safety_identifier"),
    *("prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls"),
)
_NUMBERS = ("top_p", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty")
#: What is known by other names elsewhere.
_ALIASES = {"max_completion_tokens": "max_tokens", "repeat_penalty": "repetition_penalty"}


@dataclass(frozen=True)
class Request:
    """What a request asks for.

    Attributes
    ----------
    asks
        Its texts, ``choices`` of each prompt, one after the other.
    chat
        Whether it is a conversation.
    stream
        Whether pieces are sent as they come.
    tell_usage
        Whether the last of these counts the tokens.
    echoes
        Texts that stand before each answer; "" without echo.
    choices
        Answers to each prompt.
    """

    asks: tuple[Ask, ...]
    chat: bool
    stream: bool
    tell_usage: bool
    echoes: tuple[str, ...]
    choices: int = 1


class Parser:
    """Reads requests to one model.

    Parameters
    ----------
    loaded : LoadedModel
    options : ServeOptions
    context : int
        Most tokens of a text.
    """

    def __init__(self, loaded: LoadedModel, options: ServeOptions, context: int) -> None:
        self._loaded, self._options, self._context = loaded, options, context

    def chat(self, body: bytes) -> Request:
        """Read the body of a request for the next message of a conversation.

        Raises
        ------
        SpecError
            Something in it is unknown, malformed or not allowed.
        FormatError
            It is no JSON object.
        """
        fields = _fields(body)
        messages = read_messages(fields.take("messages", list))
        tools = read_tools(
            fields.take("tools", list, None), fields.take("tool_choice", (str, dict), None)
        )
        variables = fields.take("chat_template_kwargs", dict, None)
        grammar = self._grammar(fields.take("response_format", dict, None))
        wanted = fields.take("logprobs", bool, False)
        likeliest = fields.whole("top_logprobs", 0, 0, LIKELIEST)
        if likeliest and not wanted:
            raise SpecError("top_logprobs needs logprobs to be true")
        ids = self._loaded.tokenizer.apply_chat(messages, tools=tools, variables=variables)
        most = fields.whole("max_tokens", None, 1)
        ask = self._ask(fields, tuple(ids.tolist()), most, likeliest if wanted else None)
        ask = dataclasses.replace(ask, grammar=grammar)
        return self._request(fields, [ask], [""], chat=True)

    def completion(self, body: bytes) -> Request:
        """Read the body of a request to go on from texts; raises as `chat`."""
        fields = _fields(body)
        prompts = self._prompts(fields.take("prompt", (str, list), ""))
        echo = fields.take("echo", bool, False)
        likeliest = fields.whole("logprobs", None, 0, LIKELIEST)
        fields.same("suffix", None, "")
        most = fields.whole("max_tokens", COMPLETION_TOKENS, 0 if echo else 1)
        grammar = self._grammar(fields.take("response_format", dict, None))
        base = self._ask(fields, prompts[0], most, likeliest)
        base = dataclasses.replace(base, grammar=grammar)
        score = echo and likeliest is not None
        asks = [dataclasses.replace(base, ids=ids, score_prompt=score) for ids in prompts]
        for ask in asks:
            self._check_length(ask.ids, ask.most)
        decode = self._loaded.tokenizer.decode
        echoes = [decode(ids, skip_special=False) if echo else "" for ids in prompts]
        return self._request(fields, asks, echoes, chat=False)

    def _request(
        self, fields: Fields, asks: list[Ask], echoes: list[str], *, chat: bool
    ) -> Request:
        choices = fields.whole("n", 1, 1) or 1
        fields.same("best_of", None, 1, choices)
        stream = fields.take("stream", bool, False)
        more = Fields(fields.take("stream_options", dict, None) or {}, "stream_options")
        tell_usage = more.take("include_usage", bool, False)
        more.take("include_obfuscation", bool, False)
        more.finish()
        fields.finish()
        if len(asks) * choices > self._options.choices:
            raise SpecError(
                f"{len(asks)} prompts with n={choices} are more than the {self._options.choices} "
                "texts that one request may ask for"
            )
        each = [_reseeded(ask, i) for ask in asks for i in range(choices)]
        repeated = tuple(echo for echo in echoes for _ in range(choices))
        return Request(tuple(each), chat, stream, tell_usage, repeated, choices)

    def _ask(
        self, fields: Fields, ids: tuple[int, ...], most: int | None, likeliest: int | None
    ) -> Ask:
        sampler, stops = _sampler(fields), _stops(fields)
        sampler.check_ids(self._loaded.model.vocab_size)
        if most is None:
            self._check_length(ids, 1)
            most = self._context - len(ids)
        self._check_length(ids, most)
        return Ask(ids, most, sampler, stops, likeliest)

    def _grammar(self, wanted: dict[str, Any] | None) -> Grammar | None:
        """The grammar of a ``response_format``; None where any text will do."""
        schema = read_format(wanted)
        if schema is None:
            return None
        try:
            return self._loaded.grammars.grammar(schema)
        except LrcError as error:
            raise SpecError(f"response_format: {error}") from error

    def _prompts(self, given: str | list[Any]) -> list[tuple[int, ...]]:
        """Ids of each prompt: texts, or lists of ids."""
        alone = isinstance(given, str) or all(type(item) is int for item in given)
        prompts = [given] if alone and given != [] else list(given)
        if not prompts:
            raise SpecError("prompt is an empty list; give a text, or token ids")
        return [self._ids(prompt) for prompt in prompts]

    def _ids(self, prompt: Any) -> tuple[int, ...]:
        if isinstance(prompt, str):
            return tuple(self._loaded.prompt_ids(prompt).tolist())
        if not isinstance(prompt, list) or not all(type(item) is int for item in prompt):
            raise SpecError("prompt must be a text, a list of token ids, or a list of either")
        if not prompt:
            raise SpecError("a prompt has no tokens; give at least one")
        vocab_size = self._loaded.model.vocab_size
        if not all(0 <= item < vocab_size for item in prompt):
            raise SpecError(f"a prompt has ids beyond those of this model, 0 to {vocab_size - 1}")
        return tuple(prompt)

    def _check_length(self, ids: tuple[int, ...], most: int) -> None:
        if len(ids) + most > self._context:
            raise SpecError(
                f"the prompt's {len(ids)} tokens and {most} new ones exceed the context of "
                f"{self._context}; shorten the prompt or ask for fewer tokens"
            )


def _fields(body: bytes) -> Fields:
    values = parse_object(body, "the request")
    for other, name in _ALIASES.items():
        if values.get(other) is not None:
            values[name] = values[other]
        values.pop(other, None)
    for name in _HARMLESS:
        values.pop(name, None)
    return Fields(values, "the request")


def _sampler(fields: Fields) -> Sampler:
    """Temperature 1 and a random seed, as OpenAI has it, unless told otherwise."""
    numbers = {name: fields.take(name, (int, float), None) for name in _NUMBERS}
    given: dict[str, Any] = {k: v for k, v in numbers.items() if v is not None}
    seed = fields.take("seed", int, None)
    bias = fields.take("logit_bias", dict, None) or {}
    return Sampler(
        temperature=fields.take("temperature", (int, float), 1.0),
        seed=secrets.randbits(62) if seed is None else seed % (1 << 63),
        top_k=max(fields.whole("top_k", 0, -1) or 0, 0),
        logit_bias=_biases(bias),
        **given,
    )


def _biases(given: Mapping[str, Any]) -> dict[int, float]:
    for key, value in given.items():
        if not key.isdecimal() or type(value) not in (int, float):
            raise SpecError(
                f"logit_bias gives {value!r} to {key!r}; expected token ids and numbers"
            )
    return {int(key): float(value) for key, value in given.items()}


def _stops(fields: Fields) -> tuple[str, ...]:
    given = fields.take("stop", (str, list), None)
    stops = [given] if isinstance(given, str) else given or []
    if len(stops) > STOPS or not all(isinstance(stop, str) and stop for stop in stops):
        raise SpecError(f"stop must be a text or at most {STOPS} texts, none of them empty")
    return tuple(stops)


def _reseeded(ask: Ask, choice: int) -> Ask:
    """The ask of one of several choices: each draws from a seed of its own."""
    if choice == 0:
        return ask
    seed = (ask.sampler.seed + choice) % (1 << 63)
    return dataclasses.replace(ask, sampler=dataclasses.replace(ask.sampler, seed=seed))
