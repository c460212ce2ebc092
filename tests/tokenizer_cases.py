"""Small tokenizers in the states in which model directories come; for the golden script only."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

Case = dict[str, Any]
BOS, EOS = "<|begin|>", "<|end|>"
CORPUS = [
    "the quick brown fox jumps over the lazy dog and the other dogs",
    "Hello world, hello there; user assistant system said hi to 12 users in 2026",
    "low rank plus low precision: the columns of a matrix lie close to a plane",
] * 3
TEXTS = [
    "Hello world, the users said hi!",
    "  two  spaces and a tail  ",
    "tabs\tand\nlines\r\n\r\nof 1234567 numbers",
    "naïve café ＡＢＣ ﬁ İ 東京 🐈\u200d⬛",
    f"{BOS}Hello{EOS} world<s>x</s>[CLS]y[SEP]",
    "a <tool> b<tool>c  <tool>  d<Tool>e <img_0>",
    "<|pad|> the<mask>fox <unk> [UNK] [PAD] <|im_start|>user<|im_end|>",
    "",
]
_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _special(*texts: str) -> list[AddedToken]:
    return [AddedToken(text, special=True, normalized=False) for text in texts]


def byte_level() -> Tokenizer:
    """Byte-level BPE with a regular expression and a BOS from the post-processor."""
    made = Tokenizer(models.BPE(ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    )
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(_special(BOS, EOS))
    made.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single=f"{BOS} $A",
                pair=f"{BOS} $A {BOS} $B:1",
                special_tokens=[(BOS, made.token_to_id(BOS))],
            ),
        ]
    )
    return made


def pieces() -> Tokenizer:
    """BPE of pieces that carry their blank, with bytes to fall back on."""
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    learnt.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=80, show_progress=False))
    model = json.loads(learnt.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    learnt_words = sorted(model["vocab"], key=model["vocab"].get)
    vocab = {word: i for i, word in enumerate([*first, *learnt_words])}
    merges = [tuple(pair) for pair in model["merges"]]
    made = Tokenizer(
        models.BPE(vocab, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    )
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    made.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    made.add_special_tokens(_special("<unk>", "<s>", "</s>"))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return made


def metaspace() -> Tokenizer:
    """The same pieces, cut by a pre-tokenizer instead of a normalizer."""
    made = pieces()
    made.normalizer = None
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    return made


def unigram() -> Tokenizer:
    """Unigram with NFKC, which ends what it encodes."""
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator(
        CORPUS,
        trainers.UnigramTrainer(
            vocab_size=110,
            special_tokens=["<pad>", "</s>", "<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return made


def word_piece() -> Tokenizer:
    """Lower-cased words and their parts between [CLS] and [SEP]."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    named = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    made.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=named, show_progress=False)
    )
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made


BASES = {f.__name__: f for f in (byte_level, pieces, metaspace, unigram, word_piece)}
NAMED: dict[str, dict[str, Any]] = {
    "byte_level": {"bos_token": BOS, "eos_token": EOS},
    "pieces": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "metaspace": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "unigram": {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
    "word_piece": {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"},
}


def token(content: str, **flags: Any) -> dict[str, Any]:
    """An added token as the files hold it."""
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "special"), False)
    return {"content": content, **plain, "normalized": False, **flags}


def case(name: str, base: str, tokenizer: Case | None = None, **files: Any) -> Case:
    """One directory: top-level changes of tokenizer.json, and the other files by their stems."""
    files.setdefault("tokenizer_config", NAMED[base])
    kept = {f"{stem}.json": content for stem, content in files.items() if content is not None}
    return {"name": f"{base}: {name}", "base": base, "tokenizer": tokenizer or {}, "files": kept}


def _in_any_state(base: str) -> list[Case]:
    """States that every kind of tokenizer is found in."""
    cut = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    pad = {
        "strategy": {"Fixed": 12},
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "<|pad|>",
    }
    named = NAMED[base]
    return [
        case("as made", base),
        case("no settings", base, tokenizer_config=None),
        case("truncation", base, {"truncation": cut}),
        case("padding", base, {"padding": pad}),
        case("both", base, {"truncation": cut, "padding": pad}),
        case("no post-processor", base, {"post_processor": None}),
        case(
            "asks for bos and eos",
            base,
            tokenizer_config=named | dict.fromkeys(("add_bos_token", "add_eos_token"), True),
        ),
        case(
            "new roles",
            base,
            tokenizer_config={"mask_token": "<mask>", "x_token": "<Tool>", "cls_token": "[CLS]"}
            | named,
        ),
        case(
            "extra list",
            base,
            tokenizer_config=named
            | {
                "additional_special_tokens": [
                    "<tool>",
                    token("<img_0>", lstrip=True, __type="AddedToken"),
                ]
            },
        ),
        case(
            "extra object",
            base,
            tokenizer_config=named | {"extra_special_tokens": {"image_token": "<img_0>"}},
        ),
        case(
            "roles in the older map",
            base,
            tokenizer_config=None,
            special_tokens_map=named
            | {"pad_token": token("<|pad|>", rstrip=True), "additional_special_tokens": ["<tool>"]},
        ),
    ]


def _added(base: str, size: int) -> list[Case]:
    """Added tokens named outside tokenizer.json, with right and with wrong ids."""
    named = NAMED[base]
    chat = {"<|im_start|>": size, "<|im_end|>": size + 1}

    def decoder(*tokens: dict[str, Any], start: int = size) -> dict[str, Any]:
        return named | {"added_tokens_decoder": {str(start + i): t for i, t in enumerate(tokens)}}

    ends = token("<|im_end|>", special=True)
    starts = token("<|im_start|>", special=True)
    return [
        case(
            "added in settings",
            base,
            tokenizer_config=decoder(starts, ends) | {"eos_token": "<|im_end|>"},
        ),
        case(
            "odd flags",
            base,
            tokenizer_config=decoder(
                token("<tool>", lstrip=True, rstrip=True),
                token("said hi", single_word=True),
                token("<Tool>", normalized=True),
            ),
        ),
        case("wrong ids", base, tokenizer_config=decoder(starts, ends, start=size + 5)),
        case(
            "swapped ids",
            base,
            tokenizer_config=named | {"added_tokens_decoder": {str(size): ends, "1": starts}},
        ),
        case("added in the older file", base, added_tokens=chat),
        case(
            "older file, special",
            base,
            added_tokens=chat,
            special_tokens_map=named | {"eos_token": "<|im_end|>"},
        ),
        case("older file, wrong ids", base, added_tokens={"<tool>": size + 3}),
        case(
            "map ignored beside a decoder",
            base,
            tokenizer_config=decoder(starts),
            special_tokens_map={"bos_token": "<|im_start|>"},
        ),
        case("split special tokens", base, tokenizer_config=named | {"split_special_tokens": True}),
        case(
            "added in tokenizer.json, wrong id",
            base,
            {"added_tokens": [{"id": size + 2, **token("<tool>")}]},
        ),
        case(
            "wrong id in tokenizer.json alone",
            base,
            {"added_tokens": [{"id": size + 2, **token("<tool>")}]},
            tokenizer_config=decoder(),
        ),
        case(
            "settings out of order",
            base,
            tokenizer_config=named
            | {"added_tokens_decoder": {str(size + 1): ends, str(size): starts}},
        ),
        case(
            "older file, special without a role",
            base,
            added_tokens={"<tool>": size},
            tokenizer_config=named | {"additional_special_tokens": ["<tool>"]},
        ),
        case("older roles win", base, special_tokens_map={"eos_token": "Hello"}),
    ]


def token_cases(bases: dict[str, dict[str, Any]]) -> list[Case]:
    """Every directory whose ids are compared."""
    cases = [c for base in bases for c in _in_any_state(base)]
    for base, made in bases.items():
        added = [t["id"] for t in made["added_tokens"]]
        cases += _added(base, max(len(made["model"]["vocab"]), *(i + 1 for i in added)))
    lower = {"type": "Lowercase"}
    return [
        *cases,
        case("lower case, token not normalized", "byte_level", {"normalizer": lower}),
        case(
            "lower case, token normalized",
            "byte_level",
            {"normalizer": lower},
            tokenizer_config=NAMED["byte_level"]
            | {"mask_token": token("<TOOL>", normalized=True, __type="AddedToken")},
        ),
        case("NFC", "byte_level", {"normalizer": {"type": "NFC"}}),
        case(
            "always prepends",
            "metaspace",
            {
                "pre_tokenizer": {
                    "type": "Metaspace",
                    "replacement": "▁",
                    "prepend_scheme": "always",
                    "split": False,
                }
            },
        ),
        case(
            "never prepends",
            "metaspace",
            {
                "pre_tokenizer": {
                    "type": "Metaspace",
                    "replacement": "▁",
                    "prepend_scheme": "never",
                    "split": True,
                }
            },
        ),
    ]
