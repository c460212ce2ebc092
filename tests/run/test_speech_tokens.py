"""What transcripts begin with, from the files of a model."""

from __future__ import annotations

import json

import pytest
from tiny_whisper import DE, EN, GENERATION, NO_TIMESTAMPS, START, TRANSCRIBE, TRANSLATE

from lrc.errors import FormatError, SpecError
from lrc.run.speech_tokens import SpeechTokens


def read(tmp_path, generation, config=None):
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    (tmp_path / "config.json").write_text(json.dumps(config or {}))
    return SpeechTokens.read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "language", "task", "expected"),
    [
        ({}, None, None, (None, TRANSCRIBE, NO_TIMESTAMPS)),
        ({}, "de", None, (DE, TRANSCRIBE, NO_TIMESTAMPS)),
        ({}, None, "translate", (None, TRANSLATE, NO_TIMESTAMPS)),
        ({}, "en", "translate", (EN, TRANSLATE, NO_TIMESTAMPS)),
        ({"forced_decoder_ids": None}, None, None, (None, TRANSCRIBE, NO_TIMESTAMPS)),
        ({"forced_decoder_ids": [[1, DE]]}, None, None, (DE, NO_TIMESTAMPS)),
        ({"forced_decoder_ids": [[1, DE]]}, "en", None, (EN, TRANSCRIBE, NO_TIMESTAMPS)),
        ({"language": "<|en|>"}, None, None, (EN, TRANSCRIBE, NO_TIMESTAMPS)),
        ({"language": "de", "task": "translate"}, "en", None, (EN, TRANSLATE, NO_TIMESTAMPS)),
        ({"forced_decoder_ids": [[1, NO_TIMESTAMPS]]}, None, None, (NO_TIMESTAMPS,)),
        ({"lang_to_id": None, "task_to_id": None}, None, None, (TRANSCRIBE, NO_TIMESTAMPS)),
        (
            {"lang_to_id": None, "task_to_id": None, "forced_decoder_ids": None},
            None, None, (NO_TIMESTAMPS,),
        ),
    ],
)  # fmt: skip
def test_prompts(tmp_path, changes, language, task, expected):
    tokens = read(tmp_path, {**GENERATION, **changes})
    assert tokens.prompt(language, task) == (START, *expected)
    assert tokens.prompt(language, task, timed=True) == (START, *expected[:-1])


def test_older_models_have_it_in_their_configuration(tmp_path):
    old = {"decoder_start_token_id": 2, "forced_decoder_ids": [[1, 3]], "eos_token_id": 1}
    tokens = read(tmp_path, {"eos_token_id": [4, 5]}, old)
    assert (tokens.prompt(), tokens.end) == ((2, 3), (4, 5))


def test_what_the_model_does_not_know_is_refused(tmp_path):
    tokens = read(tmp_path, GENERATION)
    with pytest.raises(SpecError, match=r"'fr'.*de, en"):
        tokens.prompt("fr")
    english = read(tmp_path, {**GENERATION, "lang_to_id": None, "task_to_id": None})
    for asked in (("en", None), (None, "translate")):
        with pytest.raises(SpecError, match="one language"):
            english.prompt(*asked)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("decoder_start_token_id", None),
        ("decoder_start_token_id", "258"),
        ("eos_token_id", [1, -1]),
        ("forced_decoder_ids", 7),
        ("forced_decoder_ids", [[2, 5]]),
        ("forced_decoder_ids", [[1, 5], [2, None]]),
        ("forced_decoder_ids", [[1, 5, 6]]),
        ("forced_decoder_ids", ["15"]),
        ("lang_to_id", ["<|en|>"]),
        ("task_to_id", {"transcribe": None}),
        ("suppress_tokens", [True]),
        ("no_timestamps_token_id", 1.5),
        ("max_initial_timestamp_index", "50"),
        ("language", 7),
    ],
)
def test_values_that_are_no_tokens_are_refused_by_name(tmp_path, key, value):
    with pytest.raises(FormatError, match=key):
        read(tmp_path, {**GENERATION, key: value})
