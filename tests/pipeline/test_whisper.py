"""A speech model through every command: compress, eval, transcribe, inspect, export."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import tiny_whisper
from audio_cases import chirp, noise
from wav_files import wav_bytes

import lrc as library
from lrc.cli.main import main
from lrc.errors import SpecError
from lrc.models.tensors import linear_of

QUICK = ("--recipe", "ldlq", "--rank", "0", "--threads", "1", "--codebook", "e8p", "--quiet")


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper.write_model(tmp_path_factory.mktemp("whisper") / "model")


@pytest.fixture(scope="module")
def audio(dense: Path) -> Path:
    return tiny_whisper.write_audio(dense.parent / "audio")


def compressed(dense: Path, audio: Path, name: str, *options: str) -> Path:
    out = dense.parent / name
    command = ["compress", str(dense), "-o", str(out), "--calib", str(audio), *QUICK, *options]
    assert main(command) == 0
    return out


@pytest.fixture(scope="module")
def small(dense: Path, audio: Path) -> Path:
    return compressed(dense, audio, "small")


def changed(path: Path, name: str, **changes: object) -> None:
    file = path / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Three windows and a half, in stereo at another rate."""
    sound = np.concatenate([chirp(1.6), noise(1.0, 9)])
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(np.stack([sound, sound], axis=1), 24, 12000))
    return path


def test_all_matrices_of_both_halves_are_compressed(lrc, dense, small):
    record = lrc("inspect", small, "--json").check().json
    known = library.load(small).model.tensors
    names = {linear_of(name) for name in record["matrices"]}
    assert names >= set(known.matrices)
    assert any("encoder_attn.k_proj" in name for name in names)
    assert any(name.startswith("model.encoder.") for name in names)
    assert record["bits_per_weight_linear"] < 16
    assert "NumPy" in record["runs_on"]
    assert record["calibration"]["source"] == "audio"
    assert lrc("inspect", dense, "--json").check().json["matrices"]


def test_tuning_is_refused_at_once(dense, small, tmp_path, capsys):
    before = sorted(path.name for path in small.iterdir())
    for more in ([], ["--what", "lora", "--task", "no.jsonl", "-o", str(tmp_path / "adapter")]):
        assert main(["tune", str(small), "--against", str(dense), *more]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "is a speech model, and lrc tune learns from text alone" in line
    assert sorted(path.name for path in small.iterdir()) == before
    assert not small.with_name("small.tuning").exists()


def test_it_evaluates(lrc, dense, small, audio):
    record = lrc("eval", small, "--audio", audio, "--against", dense, "--json").check().json
    assert record["utterances"] == len(tiny_whisper.TEXTS) == len(record["transcripts"])
    assert record["words"]["words"] == 12
    assert record["words"]["rate"] > 0
    assert 0 < record["kl_divergence"] < 3
    assert 1 < record["perplexity"] < math.inf
    assert 0 < record["top1_agreement"] <= 1
    table = lrc("eval", small, "--audio", audio, "--quiet").check().out
    assert re.search(r"word error rate +[\d.]+ \[[\d.]+, [\d.]+\] \(\d+ of 12 words\)", table)


def test_the_original_is_at_no_distance_from_itself(lrc, dense, audio):
    record = lrc("eval", dense, "--audio", audio, "--against", dense, "--json").check().json
    assert abs(record["kl_divergence"]) < 1e-6
    assert record["top1_agreement"] == 1
    assert record["words"] == record["against_words"]


def test_more_bits_are_nearer(lrc, dense, small, audio):
    finest = ("--bits", "8", "--codebook", "uniform")
    fine = compressed(dense, audio, "fine", *finest)
    distances = [
        lrc("eval", path, "--audio", audio, "--against", dense, "--json").check().json
        for path in (small, fine)
    ]
    assert distances[1]["kl_divergence"] < 0.1 * distances[0]["kl_divergence"]


def test_a_budget_is_met(lrc, dense, audio):
    out = dense.parent / "budget"
    given = ("--calib", audio, "--preset", "fast", "--target-bpw", 3.2, "--quiet")
    lrc("compress", dense, "-o", out, *given).check()
    record = lrc("inspect", out, "--json").check().json
    assert record["bits_per_weight_linear"] <= 3.2
    low, high = record["allocation"]["predicted_kl"]
    assert 0 < low < high
    with pytest.raises(SpecError, match="audio"):
        library.allocate(dense, target_bpw=3)


OTHERS = {"num_mel_bins": 128, "tie_word_embeddings": False, "decoder_layers": 1}


@pytest.mark.parametrize("how", [("--streams", "original"), ("--head-bits", "4"), ("--mix", "0")])
def test_a_head_of_its_own_more_bands_and_other_streams(lrc, audio, tmp_path, how):
    model = tiny_whisper.write_model(tmp_path / "model", **OTHERS)
    out = compressed(model, audio, "out", *how)
    record = lrc("eval", out, "--audio", audio, "--against", model, "--json").check().json
    assert 0 < record["kl_divergence"] < 3


def test_bytes_do_not_depend_on_the_threads(dense, audio, small):
    again = compressed(dense, audio, "again", "--threads", "2")
    for file in small.glob("*.safetensors"):
        assert file.read_bytes() == (again / file.name).read_bytes()


def test_it_transcribes_in_windows(lrc, small, recording):
    first = lrc("transcribe", small, recording, "--quiet", "--threads", 1).check().out
    assert first == lrc("transcribe", small, recording, "--quiet", "--threads", 2).check().out
    record = lrc("transcribe", small, recording, "--json", "--quiet").check().json
    ends = [(segment["begin"], segment["end"]) for segment in record["segments"]]
    assert ends == [(0, 1), (1, 2), (2, 3), (3, pytest.approx(2.6 * 4 / 3, abs=1e-4))]
    assert first.split() == record["text"].split()


def test_long_audio_is_heard_from_where_a_stretch_ended(lrc, recording, tmp_path):
    """With tokens for times: windows overlap, text has none, and times never fall."""
    model = tiny_whisper.write_model(tmp_path / "model", vocab_size=264 + 51)
    changed(model, "generation_config.json", suppress_tokens=[256, *range(258, 264)])
    record = lrc("transcribe", model, recording, "--json", "--quiet").check().json
    begins = [segment["begin"] for segment in record["segments"]]
    assert begins == sorted(begins)
    assert all(s["begin"] <= s["end"] <= 2.6 * 4 / 3 + 1e-3 for s in record["segments"])
    assert any(begin % 1 > 0.01 for begin in begins)
    assert "<|" not in record["text"]
    short = tmp_path / "short.wav"
    short.write_bytes(wav_bytes(chirp(0.7)))
    plain = lrc("transcribe", model, short, "--quiet").check().out
    timed = lrc("transcribe", model, short, "--times", "--quiet").check().out
    assert timed.startswith("[0.")
    assert not plain.startswith("[0.")


def test_language_and_task_change_what_is_written(lrc, dense, recording):
    texts = {
        lrc("transcribe", dense, recording, "--quiet", *options).check().out
        for options in (("--language", "en"), ("--language", "de"), ("--task", "translate"))
    }
    assert len(texts) == 3


def test_tokens_with_a_cache_are_those_without(dense, small):
    for path in (dense, small):
        model = library.load(path).model
        features = np.random.default_rng(1).uniform(-1, 1, (1, 80, 100)).astype(np.float32)
        cache, ids = model.listen(features, 12), [258]
        for _ in range(11):
            ids.append(int(model.logits(np.array([ids[-1:]]), cache)[0, -1].argmax()))
        whole = model.logits(np.array([ids[:-1]]), model.listen(features, len(ids)))
        assert whole[0].argmax(axis=1).tolist() == ids[1:]


def test_its_export_says_the_same(lrc, dense, small, audio):
    out = dense.parent / "hf"
    lrc("export", small, "--to", "hf", "-o", out, "--quiet").check()
    ours, theirs = (
        lrc("eval", path, "--audio", audio, "--json").check().json for path in (small, out)
    )
    assert math.isclose(ours["perplexity"], theirs["perplexity"], rel_tol=2e-3)
    assert (out / "preprocessor_config.json").is_file()


def test_a_run_that_ended_goes_on(dense, audio, small, monkeypatch):
    """Killed behind the encoder, and in the midst of the decoder."""
    import lrc.pipeline.blocks as blocks

    out, end, left = dense.parent / "resumed", blocks._Compressor.end, [2, 1]

    def stop(self: blocks._Compressor, block: int) -> None:
        end(self, block)
        left[0] -= 1
        if not left[0]:
            left.pop(0)
            raise KeyboardInterrupt

    command = ["compress", str(dense), "-o", str(out), "--calib", str(audio), *QUICK]
    with monkeypatch.context() as patch:
        patch.setattr(blocks._Compressor, "end", stop)
        assert main(command) == 130
        assert main(command) == 130
    assert main(command) == 0
    for file in small.glob("*.safetensors"):
        assert file.read_bytes() == (out / file.name).read_bytes()


def test_short_utterances_are_told_of(lrc, dense, tmp_path):
    tiny_whisper.write_audio(tmp_path)
    (tmp_path / "0.wav").write_bytes(wav_bytes(chirp(0.3)))
    (tmp_path / "list.jsonl").write_text('{"audio": "0.wav", "text": "a", "language": "en"}')
    given = ("--calib", tmp_path / "list.jsonl", *QUICK, "--json")
    record = lrc("compress", dense, "-o", tmp_path / "out", *given).check().json
    assert any("70% of what the encoder" in text for text in record["warnings"])
    assert record["calibration"]["utterances"] == 1


def test_a_loaded_model_transcribes(small, recording):
    loaded = library.load(small)
    said = list(loaded.transcribe(recording, "en"))
    assert [one.begin for one in said] == [0, 1, 2, 3]
    with pytest.raises(SpecError, match="times"):
        loaded.transcribe(recording, timed=True)


def test_languages_that_are_not_given_are_heard(lrc, dense, tmp_path):
    unnamed = tiny_whisper.write_audio(tmp_path, language=None)
    record = lrc("eval", dense, "--audio", unnamed, "--json").check().json
    assert record["utterances"] == 4


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("", "empty"),
        ("{", "line 1"),
        ('{"audio": "0.wav"}', '"text"'),
        ('{"audio": 1, "text": "a"}', '"audio": a int'),
        ('{"audio": "0.wav", "text": "a", "offset": 3}', "offset"),
        ('{"audio": "none.wav", "text": "a"}', "none.wav"),
        ('{"audio": "a\\u0000.wav", "text": "a"}', "no name"),
        ('{"audio": "\\ud800.wav", "text": "a"}', "no name"),
        ('{"audio": "", "text": "a"}', "lrc: error"),
        ('{"audio": "0.wav", "text": "\\ud800 %s"}' % ("word " * 20), "context"),
        ('{"audio": "list.jsonl", "text": "a"}', "no WAV file"),
        ('{"audio": "long.wav", "text": "a"}', "cut it"),
        ('{"audio": "0.wav", "text": "%s"}' % ("word " * 20), "context"),
        ('{"audio": "0.wav", "text": "a", "language": "fr"}', "'fr'"),
    ],
)
def test_bad_lists_are_one_line(lrc, dense, tmp_path, rows, said):
    tiny_whisper.write_audio(tmp_path)
    (tmp_path / "long.wav").write_bytes(wav_bytes(chirp(1.5)))
    (tmp_path / "list.jsonl").write_text(rows)
    commands = (
        ("eval", dense, "--audio", tmp_path / "list.jsonl"),
        ("compress", dense, "-o", tmp_path / "out", "--calib", tmp_path / "list.jsonl"),
    )
    for command in commands:
        outcome = lrc(*command, "--quiet")
        assert outcome.code == 1
        assert outcome.err.startswith("lrc: error: ")
        assert outcome.err.count("\n") == 1
        assert said in outcome.err
    assert not list(tmp_path.glob("out*"))


def test_what_a_speech_model_does_not_do_is_one_line(lrc, dense, audio, text, tmp_path):
    out = tmp_path / "out"
    commands = {
        ("generate", dense, "-p", "Hello"): "audio",
        ("eval", dense, "--text", text): "audio",
        ("compress", dense, "-o", out): "audio",
        ("compress", dense, "-o", out, "--calib", text): "audio",
        ("compress", dense, "-o", out, "--calib", audio, "--seqlen", 16): "seqlen",
    }
    for command, said in commands.items():
        outcome = lrc(*command, "--quiet")
        assert outcome.code == 1, command
        last = outcome.err.splitlines()[-1]
        assert last.startswith("lrc: error: ")
        assert said in last


def test_a_model_that_only_reads_hears_nothing(lrc, audio, recording, tmp_path):
    import tiny

    reader = tiny.write_model(tmp_path / "llama")
    for command in (("transcribe", reader, recording), ("eval", reader, "--audio", audio)):
        outcome = lrc(*command, "--quiet")
        assert outcome.code == 1
        assert "hears nothing" in outcome.err


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("preprocessor_config.json", {"feature_size": 128}, "do not belong together"),
        ("preprocessor_config.json", {"hop_length": 80}, "hop_length"),
        ("generation_config.json", {"suppress_tokens": [9999]}, "9999"),
        ("generation_config.json", {"forced_decoder_ids": "x"}, "forced_decoder_ids"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    lrc, recording, tmp_path, name, changes, said
):
    model = tiny_whisper.write_model(tmp_path / "model")
    changed(model, name, **changes)
    outcome = lrc("transcribe", model, recording, "--quiet")
    assert outcome.code == 1
    assert said in outcome.err
    (model / "preprocessor_config.json").unlink()
    assert "preprocessor_config.json" in lrc("transcribe", model, recording, "--quiet").err
