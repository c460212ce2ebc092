"""``lrc chat``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from lrc.base.atomic import atomic_write_bytes
from lrc.cli.commands.base import (
    Console,
    SubParsers,
    add_activations,
    add_model,
    add_threads,
    add_verb,
    load_and_tell,
)
from lrc.cli.commands.running_options import (
    adapters_of,
    add_running,
    add_schema,
    schema_of,
)
from lrc.cli.commands.sampling_options import add_sampling, sampler_of
from lrc.errors import LrcError, SpecError

if TYPE_CHECKING:
    from lrc.run.conversation import Conversation

HELP = """\
/reset        forget what was said
/retry        answer the last question again
/system TEXT  forget what was said, and answer as TEXT says
/save FILE    write what was said, as JSON
/quit         end; so does Ctrl-D
A line that ends with \\ goes on in the next one. Ctrl-C stops an answer, which stays."""


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "chat",
        run,
        "talk with a model in the terminal",
        more="Ctrl-C stops an answer and keeps the conversation; /help tells the rest.",
        example='lrc chat OUT --system "Answer in one sentence."',
    )
    add_model(parser, "model directory, dense or compressed, with a chat template")
    parser.add_argument("--system", metavar="TEXT", help="how the model is to answer")
    parser.add_argument(
        "--max-tokens", type=int, metavar="N",
        help="most tokens of an answer (default: what the context leaves)",
    )  # fmt: skip
    add_sampling(parser)
    add_activations(parser)
    add_running(parser)
    add_schema(parser)
    add_threads(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Talk until the input ends, or /quit."""
    if args.max_tokens is not None and args.max_tokens < 1:
        raise LrcError(f"--max-tokens {args.max_tokens} must be at least 1")
    from lrc.run.conversation import Conversation

    sampler, schema = sampler_of(args), schema_of(args)
    loaded = load_and_tell(args.model, console, adapters_of(args.adapter))
    if not loaded.tokenizer.chat_templates:
        raise SpecError(f"{args.model} has no chat template; use lrc generate with a plain prompt")
    talk = Conversation(
        loaded, sampler, args.system, args.stop, args.max_tokens, threads=args.threads,
        activations=args.activations, lookup=args.lookup, kv_bits=args.kv_bits, schema=schema,
        progress=console.progress,
    )  # fmt: skip
    console.progress.note("/help tells what there is; Ctrl-C stops an answer, Ctrl-D ends")
    while (text := _read(console)) is not None:
        try:
            if not _obey(text, talk, console):
                return
        except LrcError as error:
            console.progress.note(f"error: {error}")
        except OSError as error:
            console.progress.note(f"error: {error.filename}: {error.strerror}")


def _read(console: Console) -> str | None:
    """What is typed next, None at the end; an interrupt drops what was typed so far."""
    lines: list[str] = []
    while True:
        try:
            line = console.read("... " if lines else "> ")
        except EOFError:
            return None
        except KeyboardInterrupt:
            console.line("")
            lines = []
            continue
        if not line.endswith("\\"):
            return "\n".join([*lines, line]).strip()
        lines.append(line[:-1])


def _obey(text: str, talk: Conversation, console: Console) -> bool:
    """Do what a line says; False where it is to end."""
    word, _, rest = text.partition(" ")
    if text in ("/quit", "/exit", "/bye"):
        return False
    if text == "/help":
        console.line(HELP)
    elif text == "/reset":
        talk.reset()
    elif word == "/system" and rest.strip():
        talk.reset(rest.strip())
    elif word == "/save" and rest.strip():
        content = json.dumps(talk.messages, indent=2, ensure_ascii=False) + "\n"
        atomic_write_bytes(Path(rest.strip()), content.encode("utf-8", "replace"))
    elif text == "/retry":
        question = talk.retract()
        if question is None:
            raise SpecError("there is no question to answer again")
        _answer(question, talk, console)
    elif text.startswith("/"):
        raise SpecError(f"{word} is no command, or lacks what it needs; /help tells what there is")
    elif text:
        _answer(text, talk, console)
    return True


def _answer(question: str, talk: Conversation, console: Console) -> None:
    pieces = talk.answer(question)
    try:
        for piece in pieces:
            console.stream(piece)
    except KeyboardInterrupt:
        console.stream(" ...")
    finally:
        pieces.close()
        console.line("")
