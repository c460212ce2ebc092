"""``lrc serve``."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from lrc.cli.commands.base import (
    Console,
    SubParsers,
    add_activations,
    add_model,
    add_threads,
    add_verb,
    load_and_tell,
)
from lrc.cli.commands.running_options import adapters_of, add_running
from lrc.cli.tables import human_size

if TYPE_CHECKING:
    from lrc.run.load import LoadedModel
    from lrc.run.streams import Streams

#: Names the variable that holds the key where ``--api-key`` is not given: others see arguments.
KEY_VARIABLE = "LRC_API_KEY"


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "serve",
        run,
        "answer requests of OpenAI's protocol over HTTP",
        more="It has /v1/models, /v1/completions and /v1/chat/completions. Needs the extra serve.",
        example="lrc serve OUT --port 8000",
    )
    add_model(parser, "model directory, dense or compressed")
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1, this machine alone)",
    )  # fmt: skip
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="port (default: 8000; 0: a free one)"
    )
    parser.add_argument(
        "--name", help="what clients call the model (default: its directory's name)"
    )
    parser.add_argument(
        "--api-key", metavar="KEY",
        help=f"what clients have to send as their key (default: ${KEY_VARIABLE}, or none)",
    )  # fmt: skip
    parser.add_argument(
        "--streams", type=int, default=8, metavar="N",
        help="texts that are worked on at the same time; others wait (default: 8)",
    )  # fmt: skip
    parser.add_argument(
        "--context", type=int, default=0, metavar="N",
        help="most tokens of a text, prompt and answer (default: the model's, at most 4096)",
    )  # fmt: skip
    parser.add_argument(
        "--waiting", type=int, default=128, metavar="N",
        help="texts that may wait; requests beyond are refused (default: 128)",
    )  # fmt: skip
    parser.add_argument(
        "--no-batch", action="store_true",
        help="a step of each text in place of one of all: slower, but the same seed then gives the "
        "same text however many there are",
    )  # fmt: skip
    add_activations(parser)
    add_running(parser)
    add_threads(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Serve until interrupted."""
    from lrc.formats.hub import model_name
    from lrc.run.server.http import Application
    from lrc.run.server.listen import LOOPBACK, check_extra, listen, open_socket
    from lrc.run.server.options import ServeOptions
    from lrc.run.server.scheduler import Scheduler

    check_extra()
    key = os.environ.get(KEY_VARIABLE, "") if args.api_key is None else args.api_key
    options = ServeOptions(
        streams=args.streams, context=args.context, waiting=args.waiting,
        batch=not args.no_batch, api_key=key, lookup=args.lookup, kv_bits=args.kv_bits,
    )  # fmt: skip
    with open_socket(args.host, args.port) as own:
        loaded = load_and_tell(args.model, console, adapters_of(args.adapter))
        _warm_up(loaded, args, console)
        name = args.name or model_name(args.model)
        scheduler = Scheduler(
            loaded, options, threads=args.threads, activations=args.activations,
            progress=console.progress,
        )  # fmt: skip
        try:
            is_local = args.host in LOOPBACK
            hosts = LOOPBACK if is_local else ()
            app = Application(loaded, scheduler, options, name, hosts, console.progress).asgi()
            if not is_local and not key:
                console.progress.note(f"anybody who reaches {args.host} may use it: no --api-key")
            host = f"[{args.host}]" if ":" in args.host else args.host
            port = own.getsockname()[1]
            where = f"{name} is at http://{host}:{port}/v1; Ctrl-C ends it"
            console.stream(f"{where}\n{described(scheduler.streams, scheduler.context)}\n")
            listen(app, own, scheduler.stop)
        finally:
            scheduler.stop()
    console.line("stopped")


def _warm_up(loaded: LoadedModel, args: argparse.Namespace, console: Console) -> None:
    """Make a token, so that kernels are compiled before the first client waits for them."""
    from lrc.run.generate import generate

    tokens = generate(
        loaded.model, [0] * min(4, loaded.model.context - 2), 2, threads=args.threads,
        activations=args.activations, lookup=args.lookup, progress=console.progress,
    )  # fmt: skip
    for _ in tokens:
        pass


def described(streams: Streams, context: int) -> str:
    """How texts are worked on, in a line."""
    from lrc.run.streams import BATCHED

    count = len(streams.streams)
    bits = max((stream.decoder.cache.bits for stream in streams.streams), default=0)
    kept = f"keys and values in {bits} bits" if bits else "keys and values"
    how = "each by itself" if not streams.batches else f"together from {BATCHED} on"
    return (
        f"{count} texts of up to {context} tokens at a time, {how}; "
        f"{kept} take up to {human_size(streams.nbytes)}"
    )
