"""Every key of preprocessor_config.json is used, off, harmless or refused by name."""

import json

import pytest

from lrc.audio.front_end import front_end, read_front_end
from lrc.audio.mel import FrontEnd, mel_filters
from lrc.errors import FormatError, LrcError, UnsupportedModelError

PLAIN = {
    "chunk_length": 30, "feature_extractor_type": "WhisperFeatureExtractor", "feature_size": 80,
    "hop_length": 160, "n_fft": 400, "n_samples": 480000, "nb_max_frames": 3000,
    "padding_side": "right", "padding_value": 0.0, "processor_class": "WhisperProcessor",
    "return_attention_mask": False, "sampling_rate": 16000,
}  # fmt: skip


def test_a_file_as_published_is_read():
    assert front_end(PLAIN) == FrontEnd(80, 30)


def test_absent_keys_are_those_of_the_first_models():
    assert front_end({}) == FrontEnd(80, 30)


@pytest.mark.parametrize("turned", [False, True])
def test_stored_filters_have_to_be_those_used(turned):
    filters = mel_filters(80).T if turned else mel_filters(80)
    assert front_end({**PLAIN, "mel_filters": filters.astype("f4").tolist()}) == FrontEnd(80, 30)
    for other in (mel_filters(128), filters * 1.01, filters * float("nan")):
        with pytest.raises(UnsupportedModelError, match="mel_filters"):
            front_end({**PLAIN, "mel_filters": other.tolist()})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("feature_extractor_type", "SpeechT5FeatureExtractor"),
        ("feature_size", 64),
        ("feature_size", "80"),
        ("chunk_length", 0),
        ("chunk_length", 1.5),
        ("hop_length", 320),
        ("n_fft", 512),
        ("n_samples", 16000),
        ("nb_max_frames", 1500),
        ("padding_side", "left"),
        ("padding_value", -1.0),
        ("sampling_rate", 8000),
        ("dither", 1e-4),
        ("do_normalize", True),
        ("mel_filters", "slaney"),
        ("power", 1.0),
    ],
)
def test_what_would_change_the_features_is_refused_by_name(key, value):
    with pytest.raises(LrcError, match=key):
        front_end({**PLAIN, key: value})


def test_the_files_of_old_and_new_versions_are_found(tmp_path):
    new = {"feature_extractor": {**PLAIN, "feature_size": 128}, "processor_class": "x"}
    (tmp_path / "processor_config.json").write_text(json.dumps(new))
    assert read_front_end(tmp_path).mels == 128
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PLAIN))
    assert read_front_end(tmp_path).mels == 80


@pytest.mark.parametrize("text", [None, '{"processor_class": "x"}', "{", "[]"])
def test_a_model_without_the_file_is_told_what_lacks(tmp_path, text):
    if text is not None:
        (tmp_path / "processor_config.json").write_text(text)
    with pytest.raises(FormatError) as error:
        read_front_end(tmp_path)
    assert "\n" not in str(error.value)
