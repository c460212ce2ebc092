"""Everything that is read from disk or network, as `hostile.Format`: made small, read in memory."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tiny
import wav_files
import whisper_cases
from hostile import LONGS, WORDS, Format, Tree, dumped, json_bytes, raw
from hostile_adapters import gguf_adapters, peft_adapters
from model_families import CASES
from packed_golden import GOLDEN

from lrc.audio.front_end import read_front_end
from lrc.audio.wav import read_wav
from lrc.base.strict_json import parse_object
from lrc.base.text_file import read_texts
from lrc.cli.commands.spec_config import read_config
from lrc.cli.page.peer import Peer
from lrc.formats.hub import hub_name
from lrc.formats.hub_cache import cached_snapshot
from lrc.formats.imatrix import Entry, imatrix_bytes, read_imatrix
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.measure.quality import _read as read_quality
from lrc.models import declared
from lrc.models.opened import open_model
from lrc.parts.integrity import differing_files, value_faults
from lrc.parts.packed import PackedCheckpoint
from lrc.pipeline.journal import Journal
from lrc.run.load import LoadedModel
from lrc.run.server.options import ServeOptions
from lrc.run.server.parse import Parser
from lrc.run.text import Tokenizer
from lrc.run.utterances import read_utterances
from lrc.spec import CompressSpec


def safetensors(folder: Path) -> Format:
    path = folder / "x.safetensors"
    tensors = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.ones(4, np.float16),
        "c": np.zeros((0, 5), np.uint8),
        "d.weight": np.ones((3, 1, 2), np.int8),
    }
    write_safetensors(path, tensors, {"format": "pt"})
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header, data = Tree(json.loads(whole[8 : 8 + length])), whole[8 + length :]

    def make(rng: random.Random) -> bytes:
        how = rng.randrange(8)
        if how == 0:
            return raw(whole, rng)
        if how == 1:
            return struct.pack("<Q", rng.choice((*LONGS, length + 1, length - 1))) + whole[8:]
        text = json_bytes(header, rng)
        return struct.pack("<Q", len(text)) + text + (raw(data, rng) if how == 2 else data)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        file = SafetensorsFile(path)
        for name in file.names:
            file.read(name)
            if file.info(name).dtype in ("F16", "F32", "F64", "BF16"):
                file.float32(name)

    return Format("safetensors", make, read, whole)


def index(folder: Path) -> Format:
    """Of a checkpoint in two files, and its configuration."""
    home = tiny.write_model(folder / "sharded")
    file = SafetensorsFile(home / "model.safetensors")
    halves = [file.names[::2], file.names[1::2]]
    weight_map = {}
    for i, names in enumerate(halves):
        write_safetensors(home / f"part-{i}.safetensors", {n: file.read(n) for n in names})
        weight_map |= dict.fromkeys(names, f"part-{i}.safetensors")
    (home / "model.safetensors").unlink()
    path = home / "model.safetensors.index.json"
    tree = Tree({"metadata": {"total_size": 3}, "weight_map": weight_map})

    def read(content: bytes) -> None:
        path.write_bytes(content)
        Checkpoint.open(home).check_finite()

    return Format("index", lambda rng: json_bytes(tree, rng), read, dumped(tree.value))


def config(folder: Path) -> Format:
    """Of a model whose weights are there."""
    home = tiny.write_model(folder / "configured")
    tree = Tree({
        **tiny.CONFIG, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "layer_types": ["full_attention"] * 2, "sliding_window": None,
    })  # fmt: skip

    def read(content: bytes) -> None:
        (home / "config.json").write_bytes(content)
        open_model(home)

    return Format("config", lambda rng: json_bytes(tree, rng), read, dumped(tiny.CONFIG))


def families(folder: Path) -> Format:
    """Configurations of every family: which tensors they declare."""
    known = [*CASES.values(), *whisper_cases.CASES.values()]
    trees = [Tree(dict(case.config)) for case in known]

    def read(content: bytes) -> None:
        declared(parse_object(content, "config.json", unique=False))

    def make(rng: random.Random) -> bytes:
        return json_bytes(rng.choice(trees), rng)

    return Format("families", make, read, dumped(trees[0].value))


def packed(folder: Path) -> Format:
    """A directory of a compressed model: its manifest, or a file of its tensors."""
    home = folder / "packed"
    shutil.copytree(GOLDEN, home)
    names = ("lrc.json", "block-00000.safetensors", "shell.safetensors")
    whole = {name: (home / name).read_bytes() for name in names}
    tree = Tree(json.loads(whole["lrc.json"]))
    headers = {}
    for name in names[1:]:
        length = int.from_bytes(whole[name][:8], "little")
        headers[name] = Tree(json.loads(whole[name][8 : 8 + length])), whole[name][8 + length :]

    def make(rng: random.Random) -> bytes:
        which = rng.choice((0, 0, 0, 1, 2))
        if which == 0:
            return b"\0" + json_bytes(tree, rng)
        header, data = headers[names[which]]
        if rng.randrange(2):
            return bytes([which]) + raw(whole[names[which]], rng)
        text = json_bytes(header, rng)
        return bytes([which]) + struct.pack("<Q", len(text)) + text + data

    def read(content: bytes) -> None:
        name = names[content[0]]
        try:
            (home / name).write_bytes(content[1:])
            list(differing_files(home))
            list(value_faults(PackedCheckpoint.open(home)))
            open_model(home)
        finally:
            (home / name).write_bytes(whole[name])

    return Format("packed", make, read, b"\0" + whole["lrc.json"])


def tokenizer(folder: Path) -> Format:
    home = tiny.write_model(folder / "worded")
    names = (
        "tokenizer.json", "tokenizer_config.json", "generation_config.json",
        "special_tokens_map.json", "added_tokens.json",
    )  # fmt: skip
    (home / names[4]).write_text("{}")
    whole = {name: (home / name).read_bytes() for name in names}
    trees = {name: Tree(json.loads(content)) for name, content in whole.items()}
    trees[names[4]] = Tree({"<x>": 258, "<y>": 259})
    small = json.loads(whole[names[0]])
    small["added_tokens"] += [{"id": 300, "content": "<z>", "special": True}]
    small["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "NFC"}]}
    trees[names[0]] = Tree(small)

    def make(rng: random.Random) -> bytes:
        which = rng.randrange(5)
        return bytes([which]) + json_bytes(trees[names[which]], rng)

    def read(content: bytes) -> None:
        name = names[content[0]]
        try:
            (home / name).write_bytes(content[1:])
            opened = Tokenizer.open(home)
            opened.decode(opened.encode("the quick <x> fox"))
            if opened.chat_template is not None:
                opened.apply_chat([{"role": "user", "content": "hello"}])
        finally:
            (home / name).write_bytes(whole[name])

    return Format("tokenizer", make, read, b"\0" + whole[names[0]])


def spec(folder: Path) -> Format:
    path = folder / "spec.json"
    low_rank = {"rank": 3, "factor_bits": 4}
    matrix = {"quant": {"codebook": "uniform", "bits": 4}, "low_rank": low_rank, "reason": "x"}
    tree = Tree(CompressSpec().to_dict() | {"matrices": {"model.layers.0.mlp.up_proj": matrix}})

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_config(path).with_table_bits()

    return Format("spec", lambda rng: json_bytes(tree, rng), read, dumped(tree.value))


def journal(folder: Path) -> Format:
    """What an unfinished run has left."""
    tree = Tree({
        "records": {"a": {"shape": [1, 2]}}, "files": ["x.safetensors"], "warnings": ["a"],
        "dropped": {"x.safetensors": 3}, "calibration": {"source": "a"}, "seconds": [0.5],
        "checksums": {"x.safetensors": "0" * 64},
    })  # fmt: skip
    home = folder / "left"
    home.mkdir()

    def read(content: bytes) -> None:
        (home / "unfinished.json").write_bytes(content)
        Journal.resume(home)

    return Format(
        "journal", lambda rng: json_bytes(tree, rng), read, dumped(tree.value | {"files": []})
    )


def texts(folder: Path) -> Format:
    """Lines of JSON with a text each, and plain text."""
    lines, plain = folder / "x.jsonl", folder / "x.txt"
    tree = Tree({"text": "the quick brown fox", "meta": {"a": [1, 2]}})

    def make(rng: random.Random) -> bytes:
        if rng.randrange(3) == 0:
            return b"\0" + raw("a line é\r\nand another\n".encode() * 3, rng)
        return b"\1" + b"\n".join(json_bytes(tree, rng) for _ in range(rng.choice((1, 3))))

    def read(content: bytes) -> None:
        path = lines if content[0] else plain
        path.write_bytes(content[1:])
        list(read_texts(path))

    return Format("texts", make, read, b"\1" + dumped(tree.value))


def wav(folder: Path) -> Format:
    path = folder / "x.wav"
    samples = np.sin(np.arange(300) / 7)
    whole = [wav_files.wav_bytes(samples, bits) for bits in (8, 16, 24, 32)]
    whole += [
        wav_files.wav_bytes(np.stack([samples, samples], 1), extensible=True),
        wav_files.wav_bytes(samples, 32, real=True, extra=wav_files.chunk(b"LIST", b"abc")),
    ]

    def make(rng: random.Random) -> bytes:
        content = bytearray(rng.choice(whole))
        if rng.randrange(3) == 0:
            return raw(bytes(content), rng)
        for _ in range(rng.choice((1, 2, 3))):  # a field of the header
            at = rng.choice((4, 16, 20, 22, 24, 28, 32, 34, 36, 40))
            size = 2 if at in (20, 22, 32, 34) else 4
            content[at : at + size] = struct.pack("<I", rng.choice(WORDS))[:size]
        return bytes(content)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_wav(path)

    return Format("wav", make, read, whole[0])


def utterances(folder: Path) -> Format:
    """Lines that name audio files and say what is heard there."""
    path = folder / "list.jsonl"
    tree = Tree({"audio": "x.wav", "text": "the quick fox", "language": "en"})

    def make(rng: random.Random) -> bytes:
        return b"\n".join(json_bytes(tree, rng) for _ in range(rng.choice((1, 3))))

    def read(content: bytes) -> None:
        path.write_bytes(content)
        read_utterances(path)

    return Format("utterances", make, read, dumped(tree.value))


def front_ends(folder: Path) -> Format:
    """What a speech model says of the sound that it takes."""
    home = folder / "hearing"
    home.mkdir()
    tree = Tree({
        "feature_size": 80, "sampling_rate": 16000, "hop_length": 160, "n_fft": 400,
        "chunk_length": 30, "n_samples": 480000, "nb_max_frames": 3000, "padding_value": 0.0,
    })  # fmt: skip

    def read(content: bytes) -> None:
        (home / "preprocessor_config.json").write_bytes(content)
        read_front_end(home)

    return Format("front ends", lambda rng: json_bytes(tree, rng), read, dumped(tree.value))


def figures(folder: Path) -> Format:
    """Figures that `lrc report --compare` reads, and those that are kept beside a model."""
    path = folder / "figures.json"
    tree = Tree({
        "name": "m", "file_bytes": 5, "bits_per_weight_file": 2.0, "bits_per_weight_linear": 2.0,
        "text": "t", "text_digest": "0", "ctx": 8, "windows": 2, "tokens": 8, "score": "all",
        "activations": "i8", "perplexity": 3.0, "against": "o", "kl_interval": [0.1, 0.2],
        "kl_divergence": 0.15, "perplexity_ratio": 1.1, "perplexity_ratio_interval": [1.0, 1.2],
    })  # fmt: skip
    one = {k: v for k, v in tree.value.items() if "bits" not in k and k not in ("name", "tokens")}
    kept = Tree({
        "format": "lrc-quality", "version": 1,
        "evaluations": [{**one, "model": "x", "tokens": 8} | {"file_bytes": 0}],
    })  # fmt: skip
    del kept.value["evaluations"][0]["file_bytes"]
    kept = Tree(kept.value)

    def make(rng: random.Random) -> bytes:
        which = rng.randrange(2)
        return bytes([which]) + json_bytes((tree, kept)[which], rng)

    def read(content: bytes) -> None:
        path.write_bytes(content[1:])
        if content[0]:
            read_quality(path)
        else:
            Peer.open(path)

    return Format("figures", make, read, b"\1" + dumped(kept.value))


def hub_names(folder: Path) -> Format:
    """What may be given in the place of a path; no name leads out of the hub's cache."""
    pieces = (
        *("org", "tiny", "a.gguf", "-00001-of-00002.gguf", "v1", "main", "refs/pr/1", "..", "."),
        *("/", "//", "@", "\\", "~", "\0", " ", "é", "--", "%2e%2e", "x" * 300, "\n", "C:"),
    )

    def make(rng: random.Random) -> bytes:
        if rng.randrange(3):
            whole = f"org/tiny@{rng.choice(pieces)}/{rng.choice(pieces)}{rng.choice(pieces)}"
        else:
            whole = "".join(rng.choice(pieces) for _ in range(rng.randrange(1, 9)))
        return whole.encode()

    def read(content: bytes) -> None:
        name = hub_name(content.decode())
        if name is not None:
            parts = f"{name.name}/{name.revision}".split("/")
            if any(part.startswith(".") or not part for part in parts):
                raise ValueError(f"{name} leads elsewhere")
            cached_snapshot(name.name, name.revision)

    return Format("hub names", make, read, b"org/tiny@v1")


def requests(folder: Path, load: Callable[[Path], LoadedModel]) -> Format:
    """Bodies of requests to `lrc serve`."""
    parser = Parser(load(tiny.write_model(folder / "served")), ServeOptions(), 512)
    common: dict[str, Any] = {
        "model": "m", "max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "seed": 3, "n": 1,
        "stop": ["a", "b"], "stream": True, "stream_options": {"include_usage": True},
        "presence_penalty": 0.1, "logit_bias": {"5": 1.0}, "user": "x",
    }  # fmt: skip
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    chat = Tree({
        **common, "tools": [tool], "logprobs": True, "top_logprobs": 2,
        "response_format": {"type": "text"}, "chat_template_kwargs": {"a": 1},
        "messages": [{"role": "system", "content": "be"},
                     {"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    })  # fmt: skip
    completion = Tree({**common, "prompt": ["a b", "c"], "echo": True, "logprobs": 2})

    def make(rng: random.Random) -> bytes:
        which = rng.randrange(2)
        return bytes([which]) + json_bytes((chat, completion)[which], rng)

    def read(content: bytes) -> None:
        (parser.completion if content[0] else parser.chat)(content[1:])

    return Format("requests", make, read, b"\0" + dumped(chat.value | {"logit_bias": {}}))


def gguf_files(folder: Path) -> Format:
    """One layer of a Llama; every scalar field, count and length of the header may be another."""
    import tiny_gguf

    from lrc.convert.gguf.source import Source
    from lrc.convert.gguf.tokenizer import write_tokenizer

    path, words = folder / "x.gguf", folder / "words"
    words.mkdir()
    whole = tiny_gguf.write(path, small_weights(tiny_gguf), llama__block_count=1).read_bytes()
    end = whole.index(b"output_norm.weight") + 60

    def make(rng: random.Random) -> bytes:
        content = bytearray(whole)
        if rng.randrange(4) == 0:
            return raw(whole, rng)
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.choice((8, 16, rng.randrange(4, end), rng.randrange(4, 1200)))
            pack, choices = rng.choice((("<I", WORDS), ("<Q", LONGS), ("<B", (0, 1, 9, 255))))
            size = struct.calcsize(pack)
            content[at : at + size] = struct.pack(pack, rng.choice(choices))
        return bytes(content)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        source = Source.open(path)
        write_tokenizer(source.fields, words)
        for name in source.shapes:
            source.weight(name)

    return Format("gguf", make, read, whole)


def importance(folder: Path) -> Format:
    """Importance matrices of both forms."""
    path = folder / "x.imatrix"
    entries = {f"blk.{i}.w": Entry(np.ones((1 + i, 4), "f4"), np.ones(1 + i, "f4")) for i in (0, 1)}
    older = struct.pack("<ii5siif", 1, 5, b"blk.0", 2, 1, 3.0) + struct.pack("<ii1s", 7, 1, b"t")
    wholes = (imatrix_bytes(entries, "text", 2, 8), older)

    def make(rng: random.Random) -> bytes:
        whole = rng.choice(wholes)
        if rng.randrange(3) == 0:
            return raw(whole, rng)
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2, 4))):
            pack, choices = rng.choice((("<I", WORDS), ("<Q", LONGS), ("<B", (0, 1, 9, 255))))
            at = rng.randrange(len(content) - struct.calcsize(pack))
            content[at : at + struct.calcsize(pack)] = struct.pack(pack, rng.choice(choices))
        return bytes(content)

    def read(content: bytes) -> None:
        path.write_bytes(content)
        for entry in read_imatrix(path).values():
            assert np.isfinite(entry.mean_squares()).all()

    return Format("imatrix", make, read, wholes[0])


def small_weights(tiny_gguf: Any) -> dict[str, Any]:
    return {name: w for name, w in tiny_gguf.tensors().items() if "blk.1." not in name}


def formats(folder: Path) -> list[Format]:
    """All of them, in files below ``folder``."""
    from lrc.run.load import load

    return [
        *(make(folder) for make in (safetensors, index, config, families, packed, tokenizer, spec)),
        *(make(folder) for make in (journal, texts, wav, gguf_files, importance)),
        *(make(folder) for make in (utterances, front_ends, figures, hub_names)),
        *(make(folder) for make in (peft_adapters, gguf_adapters)),
        requests(folder, load),
    ]
