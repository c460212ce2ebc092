"""What the harness asks of a model, over this library's engine; knows nothing of the harness."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lrc.errors import SpecError
from lrc.lm_eval.texts import texts_together
from lrc.measure.continuations import Continuations, Likelihood, rolling
from lrc.run.generate import generate
from lrc.run.sampler import Sampler
from lrc.run.server.jobs import Ask
from lrc.run.server.options import ServeOptions
from lrc.run.stops import until_stop
from lrc.run.text import text_pieces

if TYPE_CHECKING:
    from lrc.run.load import LoadedModel

_log = logging.getLogger(__name__)
#: Names that tasks have for the most new tokens; the first that is given counts.
_MOST = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
#: Options of tasks that are those of a sampler.
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
#: Tokens that a model sees unless told, or its context where that is shorter.
LONGEST = 2048
#: Requests that are worked on at the same time with batch_size "auto".
AUTO = 8


def _batch(size: int | str | None) -> int:
    """How many requests are worked on at the same time.

    Raises
    ------
    SpecError
        ``size`` is no number of them.
    """
    if str(size).startswith("auto"):
        return AUTO
    try:
        count = int(size or 1)
    except ValueError:
        count = 0
    if count < 1:
        raise SpecError(f"batch_size={size!r} must be a whole number, 1 at least, or 'auto'")
    return count


class Request(Protocol):
    """One question of the harness."""

    @property
    def args(self) -> tuple[Any, ...]:
        """What is asked, by kind of request."""
        ...


class HarnessModel:
    """A dense or compressed model for the harness.

    Parameters
    ----------
    pretrained : str
        Directory, or ORG/NAME of the hub.
    threads : int, optional
        Every processor unless told; never changes a result.
    activations : {"i8", "f32"}
        What a compressed model multiplies with, as of `lrc.generate`.
    max_length : int, optional
        Tokens it sees: of longer contexts the end counts. 2048, or its context, unless told.
    add_bos_token : bool
        Whether texts begin with BOS; as the harness' own models do not, the default is no.
    max_gen_toks : int
        New tokens of tasks that do not say how many.
    batch_size : int or "auto", optional
        Requests that a compressed model works on at the same time, "auto" is 8; 1 unless told. It
        changes results by rounding alone, and greedy texts where that decides.
    max_batch_size, device
        Of the harness' command line, not used: what asks for a GPU is told so.
    """

    def __init__(
        self,
        pretrained: str,
        threads: int | None = None,
        activations: str = "i8",
        max_length: int | None = None,
        add_bos_token: bool = False,
        max_gen_toks: int = 256,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        device: str | None = None,
    ) -> None:
        from lrc.run.load import load

        super().__init__()
        self._together = _batch(batch_size)
        if max_batch_size is not None:
            _log.warning("max_batch_size %s not used", max_batch_size)
        if device not in (None, "cpu"):
            _log.warning("device %s not used: lrc runs on the CPU", device)
        self.loaded: LoadedModel = load(pretrained)
        for note in self.loaded.model.notes:
            _log.warning("%s: %s", pretrained, note)
        self.max_length = max_length or min(LONGEST, self.loaded.model.context)
        self._threads, self._activations = threads, activations
        self._bos, self._most = add_bos_token, max_gen_toks
        self._name = str(pretrained)
        self._scorer = Continuations(
            self.loaded.model, self.max_length, threads, activations, together=self._together
        )

    # What is asked

    def loglikelihood(
        self, requests: Sequence[Request], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log probability of each continuation after its context, and whether greedy gives it."""
        pairs = [self._pair(*request.args) for request in requests]
        found = self._scores(pairs, "loglikelihood", disable_tqdm)
        for request, likelihood in zip(requests, found, strict=True):
            self._cache("loglikelihood", request, tuple(likelihood))
        return [(one.logprob, one.is_greedy) for one in found]

    def loglikelihood_rolling(
        self, requests: Sequence[Request], disable_tqdm: bool = False
    ) -> list[float]:
        """Log probability of each text, every token once, from as much context as there may be."""
        parts = [
            list(
                rolling(self._encoded(request.args[0], begins=False), self._prefix, self.max_length)
            )
            for request in requests
        ]
        likely = iter(
            self._scores(
                [part for own in parts for part in own], "loglikelihood_rolling", disable_tqdm
            )
        )
        found = [sum(next(likely).logprob for _ in own) for own in parts]
        for request, logprob in zip(requests, found, strict=True):
            self._cache("loglikelihood_rolling", request, logprob)
        return found

    def generate_until(self, requests: Sequence[Request], disable_tqdm: bool = False) -> list[str]:
        """What comes after each context, up to the first of its stops."""
        from tqdm import tqdm

        asks = []
        for place, request in enumerate(requests):
            context, options = request.args
            asks.append(self._ask(context, options, place))
        found: dict[int, str] = {}
        for i, text in tqdm(
            self._texts(asks), "generate_until", total=len(asks), disable=disable_tqdm
        ):
            found[i] = text
            self._cache("generate_until", requests[i], text)
        return [found[i] for i in range(len(asks))]

    # What a chat takes

    @property
    def tokenizer_name(self) -> str:
        """What the harness keeps requests under."""
        return self._name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """Source of the template that conversations take; a name chooses another one."""
        from lrc.run.chat_templates import choose_template

        if not chat_template:
            return None
        name = chat_template if isinstance(chat_template, str) else None
        return choose_template(self.loaded.tokenizer.chat_templates, name)

    def apply_chat_template(
        self, chat_history: Sequence[Mapping[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """Text of a conversation; without a prompt for an answer it ends in its last message."""
        return self.loaded.tokenizer.render_chat(
            chat_history, add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )  # fmt: skip

    # How

    @property
    def _prefix(self) -> int:
        """What stands before a text that has no context."""
        tokenizer = self.loaded.tokenizer
        known = [*([] if tokenizer.bos_id is None else [tokenizer.bos_id]), *tokenizer.eos_ids]
        if not known:
            raise SpecError(f"{self._name} has neither BOS nor EOS to begin a text with")
        return known[0]

    def _encoded(self, text: str, *, begins: bool = True) -> list[int]:
        """Ids of a text; BOS before one that begins, where that was asked for, and only once."""
        ids = [int(i) for i in self.loaded.tokenizer.encode(text)]
        bos = self.loaded.tokenizer.bos_id
        lacks = self._bos and begins and bos is not None and ids[:1] != [bos]
        return [bos, *ids] if lacks and bos is not None else ids

    def _pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        """Ids of both, cut from those of the whole; blanks that end a context go to what follows.

        Where a token reaches over the cut and nothing is left to score, that token is.
        """
        if not context:
            return [self._prefix], self._encoded(continuation, begins=False)
        cut = len(context.rstrip())
        whole = self._encoded(context + continuation)
        count = len(self._encoded(context[:cut])) if cut else 0
        count = max(min(count, len(whole) - 1), 0)
        return (whole[:count], whole[count:]) if count else ([self._prefix], whole)

    def _scores(
        self, pairs: Sequence[tuple[list[int], list[int]]], what: str, quiet: bool
    ) -> list[Likelihood]:
        """Likelihoods in the order asked."""
        from tqdm import tqdm

        done = tqdm(self._scorer.score_all(pairs), what, total=len(pairs), disable=quiet)
        found: dict[int, Likelihood] = dict(done)
        return [found[i] for i in range(len(pairs))]

    def _ask(self, context: str, options: Mapping[str, Any], place: int) -> Ask:
        """What a task asks for."""
        given = dict(options)
        until = given.pop("until", None) or []
        stops = [stop for stop in ([until] if isinstance(until, str) else until) if stop]
        most = next(
            (int(v) for name in _MOST if (v := given.pop(name, None)) is not None), self._most
        )
        sampler = self._sampler(given, place)
        if most >= self.max_length:
            raise SpecError(
                f"a task asks for {most} new tokens, and the model sees {self.max_length}; "
                "give it a larger max_length, or the task fewer tokens"
            )
        ids = (self._encoded(context) or [self._prefix])[-(self.max_length - most) :]
        return Ask(tuple(ids), most, sampler, tuple(stops))

    def _texts(self, asks: Sequence[Ask]) -> Iterator[tuple[int, str]]:
        """Numbers of texts as they are done, and the texts."""
        if self._together > 1 and len(asks) > 1:
            yield from texts_together(
                self.loaded, asks, ServeOptions(self._together, context=self.max_length),
                self._threads, self._activations,
            )  # fmt: skip
            return
        tokenizer = self.loaded.tokenizer
        for i, ask in enumerate(asks):
            tokens = generate(
                self.loaded.model, ask.ids, ask.most, ask.sampler, tokenizer.eos_ids,
                threads=self._threads, activations=self._activations,
            )  # fmt: skip
            yield i, "".join(until_stop(text_pieces(tokenizer, tokens), ask.stops))

    def _sampler(self, given: dict[str, Any], place: int) -> Sampler:
        """How a task wants tokens chosen: greedily unless it samples; draws differ by request."""
        samples = given.pop("do_sample", None)
        known = {name: given.pop(name) for name in _SAMPLING if given.get(name) is not None}
        if given:
            _log.warning("options of a task not used: %s", ", ".join(sorted(given)))
        if samples is False:
            known["temperature"] = 0.0
        elif samples:
            known.setdefault("temperature", 1.0)
        return Sampler(**known, seed=Sampler().seed + place)

    def _cache(self, kind: str, request: Request, result: Any) -> None:
        """Tell the harness' cache, where there is one, so that an interrupted run can go on."""
        hook = getattr(self, "cache_hook", None)
        if hook is not None:
            hook.add_partial(kind, request.args, result)
