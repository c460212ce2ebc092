"""Events of texts to what clients of OpenAI's protocol read: objects, whole or in pieces."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import Any

from lrc.run.server.jobs import End, Event, Piece, Scored
from lrc.run.server.parse import Request
from lrc.run.server.token_texts import TokenTexts

Json = dict[str, Any]


class Replies:
    """Answers one request.

    Parameters
    ----------
    request : Request
    texts : TokenTexts
    name : str
        The model's.
    """

    def __init__(self, request: Request, texts: TokenTexts, name: str) -> None:
        self._request, self._texts = request, texts
        prefix = "chatcmpl-" if request.chat else "cmpl-"
        kind = "chat.completion" if request.chat else "text_completion"
        if request.stream and request.chat:
            kind += ".chunk"
        self._head = {
            "id": prefix + secrets.token_hex(12), "object": kind, "created": int(time.time()),
            "model": name, "system_fingerprint": None,
        }  # fmt: skip
        self._ends: dict[int, End] = {}
        self._offsets = [0] * len(request.asks)

    def begin(self) -> list[Json]:
        """What a client is sent before anything is made."""
        choices = range(len(self._request.asks))
        if self._request.chat:
            first = {"role": "assistant", "content": ""}
            return [self._chunk(self._delta(i, first)) for i in choices]
        echoes = self._request.echoes
        return [self._chunk(self._part(i, echoes[i])) for i in choices if echoes[i]]

    def piece(self, index: int, event: Piece) -> Json:
        """What a client is sent of a choice's next piece."""
        if self._request.chat:
            delta = {"content": event.text}
            logprobs = self._chat_scores(event.scored) if event.scored else None
            return self._chunk(self._delta(index, delta, logprobs=logprobs))
        scores = self._scores(index, event.scored) if event.scored else None
        return self._chunk(self._part(index, event.text, scores))

    def end(self, index: int, event: End) -> Json:
        """What a client is sent at the end of a choice."""
        self._ends[index] = event
        if self._request.chat:
            return self._chunk(self._delta(index, {}, event.reason))
        return self._chunk(self._part(index, "", None, event.reason))

    def usage_chunk(self) -> Json:
        """What a client that wants them is sent last: the numbers of tokens."""
        return {**self._head, "choices": [], "usage": self._usage()}

    def whole(self, events: Sequence[Sequence[Event]]) -> Json:
        """The answer at once, from the events of every choice."""
        choices = []
        for index, told in enumerate(events):
            pieces = [event for event in told if isinstance(event, Piece)]
            self._ends[index] = next(event for event in told if isinstance(event, End))
            text = "".join(piece.text for piece in pieces)
            scored = tuple(s for piece in pieces for s in piece.scored)
            choices.append(self._choice(index, text, scored))
        return {**self._head, "choices": choices, "usage": self._usage()}

    def _choice(self, index: int, text: str, scored: tuple[Scored, ...]) -> Json:
        is_scored = self._request.asks[index].likeliest is not None
        choice: Json = {"index": index, "finish_reason": self._ends[index].reason}
        if self._request.chat:
            message = {"role": "assistant", "content": text, "refusal": None}
            logprobs = self._chat_scores(scored) if is_scored else None
            return {**choice, "message": message, "logprobs": logprobs}
        scores = self._scores(index, scored) if is_scored else None
        return {**choice, "text": self._request.echoes[index] + text, "logprobs": scores}

    def _chunk(self, choice: Json) -> Json:
        usage = {"usage": None} if self._request.tell_usage else {}
        return {**self._head, "choices": [choice], **usage}

    @staticmethod
    def _delta(
        index: int, delta: Json, reason: str | None = None, logprobs: Json | None = None
    ) -> Json:
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    @staticmethod
    def _part(
        index: int, text: str, logprobs: Json | None = None, reason: str | None = None
    ) -> Json:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _usage(self) -> Json:
        prompts = self._request.asks[:: self._request.choices]
        read = sum(len(ask.ids) for ask in prompts)
        made = sum(end.made for end in self._ends.values())
        reused = sum(end.reused for i, end in self._ends.items() if i % self._request.choices == 0)
        return {
            "prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made,
            "prompt_tokens_details": {"cached_tokens": reused},
        }  # fmt: skip

    def _scores(self, index: int, scored: Sequence[Scored]) -> Json:
        """Log probabilities as completions have them: lists of the same length."""
        texts = [self._texts.text(s.token) for s in scored]
        offsets = []
        for text in texts:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [s.logprob for s in scored],
            "top_logprobs": [self._likeliest(s) for s in scored],
            "text_offset": offsets,
        }

    def _likeliest(self, scored: Scored) -> dict[str, float] | None:
        """By text, with the token itself; of tokens of the same text the likeliest counts."""
        if scored.logprob is None:
            return None
        found: dict[str, float] = {}
        for token, logprob in (*scored.likeliest, (scored.token, scored.logprob)):
            found.setdefault(self._texts.text(token), logprob)
        return found

    def _chat_scores(self, scored: Sequence[Scored]) -> Json:
        """Log probabilities as conversations have them: an object a token."""
        content = [
            {
                **self._scored_text(s.token, s.logprob),
                "top_logprobs": [self._scored_text(*pair) for pair in s.likeliest],
            }
            for s in scored
        ]
        return {"content": content, "refusal": None}

    def _scored_text(self, token: int, logprob: float | None) -> Json:
        text = self._texts.text(token)
        whole = None if "\ufffd" in text else list(text.encode("utf-8", "replace"))
        return {"token": text, "logprob": logprob, "bytes": whole}
