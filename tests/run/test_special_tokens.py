"""What the golden files cannot show: text that is no text, prompts, malformed files."""

import json

import numpy as np
import pytest
from tiny import BOS, EOS, tokenizer, write_model
from tokenizers import models

import lrc
from lrc.base.progress import SILENT
from lrc.calibrate.mixture import calibration_windows
from lrc.cli.commands.generate import conversation
from lrc.errors import FormatError, SpecError
from lrc.run.text import Tokenizer
from lrc.spec import CalibrationSpec

HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model")


def edit(folder, name, **changes):
    file = folder / name
    kept = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(kept | changes))


@pytest.mark.parametrize("broken", ["a\ud83d b", "a\udcff\ud83d b"])
def test_half_a_pair_is_a_replacement_character(broken):
    made = Tokenizer(tokenizer(), chat_template="{{ messages[0].content }}")
    whole = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in broken)
    assert made.decode(made.encode(broken)) == whole
    assert made.decode(made.apply_chat([{"role": "user", "content": broken}])) == whole


def test_a_prompt_begins_with_bos_once(folder):
    post = {"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}
    both = {"SpecialToken": {"id": BOS, "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    edit(
        folder,
        "tokenizer.json",
        post_processor={
            "type": "TemplateProcessing",
            "single": post,
            "pair": [*post, *both],
            "special_tokens": {BOS: {"id": BOS, "ids": [256], "tokens": [BOS]}},
        },
    )
    made = Tokenizer.open(folder)
    hi = made.encode("hi").tolist()
    assert made.encode(f"{BOS}hi", add_special=True).tolist() == [256, 256, *hi]
    for text, ids in {"hi": [256, *hi], f"{BOS}hi": [256, *hi], "": [256], BOS: [256]}.items():
        assert made.encode_prompt(text).tolist() == ids


def test_a_prompt_is_left_alone_where_nothing_is_added(folder):
    made = Tokenizer.open(folder)
    assert made.encode_prompt("hi").tolist() == made.encode("hi").tolist()
    assert made.encode_prompt(f"{BOS}{BOS}").tolist() == [256]
    assert made.encode_prompt("").tolist() == [256]
    assert Tokenizer(tokenizer()).encode_prompt("").tolist() == []


def test_a_system_prompt_comes_before_the_question(folder):
    made = Tokenizer.open(folder)
    text = f"{BOS}system\nBe brief.{EOS}\n{BOS}user\nHi{EOS}\n{BOS}assistant\n"
    ids = made.apply_chat(conversation("Hi", "Be brief."))
    assert made.decode(ids, skip_special=False) == text


def test_the_model_writes_from_the_bos_that_any_file_names(folder):
    asked = CalibrationSpec((), nsamples=2, seqlen=6)

    def written():
        loaded = lrc.load(folder)
        return calibration_windows(
            asked, loaded.tokenizer, loaded.model, seed=4, threads=1, progress=SILENT
        ).windows

    given = written()
    edit(folder, "config.json", bos_token_id=None)
    np.testing.assert_array_equal(written(), given)
    (folder / "generation_config.json").unlink()
    np.testing.assert_array_equal(written(), given)
    edit(folder, "tokenizer_config.json", bos_token=None)
    (folder / "special_tokens_map.json").unlink()
    assert (written()[:, 0] == 257).all()  # the EOS then


def test_dropout_is_off(folder):
    made = tokenizer()
    vocab = made.get_vocab()
    vocab |= {"aa": len(vocab), "aaaa": len(vocab) + 1}
    made.model = models.BPE(vocab, [("a", "a"), ("aa", "aa")], dropout=0.5)
    made.save(str(folder / "tokenizer.json"))
    opened = Tokenizer.open(folder)
    assert opened.encode("a" * 400).tolist() == [vocab["aaaa"]] * 100


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("tokenizer_config.json", {"added_tokens_decoder": ["x"]}, "an object for each token id"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {}}}, "each token id"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"9": {}}}, "is not a token"),
        ("tokenizer_config.json", {"extra_special_tokens": "x"}, "a list or an object"),
        ("tokenizer_config.json", {"extra_special_tokens": [7]}, "7 is not a token"),
        ("tokenizer_config.json", {"pad_token": "\ud83d"}, "is not a token"),
        ("added_tokens.json", {"x": "258"}, "'x' the id '258'"),
        ("added_tokens.json", {"xyz": 300}, "'xyz' the id 300, but its vocabulary makes it 258"),
        ("tokenizer_config.json", {"chat_template": 7}, "chat_template is 7"),
        ("tokenizer_config.json", {"chat_template": [{"name": "a"}]}, "chat_template is"),
    ],
)  # fmt: skip
def test_malformed_files_are_named(folder, name, changes, words):
    edit(folder, name, **changes)
    with pytest.raises(FormatError, match=words):
        Tokenizer.open(folder)


def test_a_template_that_is_no_text_is_named(folder):
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(FormatError, match=r"chat_template\.jinja is not UTF-8"):
        Tokenizer.open(folder)


def test_the_template_of_a_processor_comes_last(folder):
    edit(folder, "chat_template.json", chat_template="processor")
    assert Tokenizer.open(folder).render_chat(HI).startswith(BOS)
    edit(folder, "tokenizer_config.json", chat_template=None)
    assert Tokenizer.open(folder).render_chat(HI) == "processor"


def test_templates_have_names(folder):
    edit(folder, "tokenizer_config.json", chat_template=[{"name": "rag", "template": "r"}])
    made = Tokenizer.open(folder)
    assert made.chat_template is None
    with pytest.raises(SpecError, match="no chat template 'default', only rag"):
        made.render_chat(HI)
    assert made.render_chat(HI, template="rag") == "r"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ 'x' * (10 ** 15) }}", "template failed: it makes a text or list too large"),
        ("{{ 1 / 0 }}", "template failed: division by zero"),
        ("{{ raise_exception('a\nb') }}", "template refuses: a b"),
        ("{{ range(10 ** 9) }}", "template failed: it asks for something too large"),
    ],
)
def test_whatever_a_template_does_wrong_is_told_in_one_line(source, words):
    with pytest.raises(SpecError, match=words) as refusal:
        Tokenizer(tokenizer(), chat_template=source).render_chat(HI)
    assert "\n" not in str(refusal.value)


def test_templates_see_plain_data_only():
    made = Tokenizer(tokenizer(), chat_template="{{ messages[0].content }}")
    assert made.render_chat([{"role": "user", "content": ("a", 1)}]) == "['a', 1]"
    with pytest.raises(SpecError, match="holds a Tokenizer"):
        made.render_chat([{"role": "user", "content": made}])
    with pytest.raises(SpecError, match="expected a mapping with role and content"):
        made.render_chat(["Hi"])


def test_a_message_without_text_cannot_be_continued():
    made = Tokenizer(tokenizer(), chat_template="{{ messages[0].content }}")
    with pytest.raises(SpecError, match="no text to continue"):
        made.render_chat([{"role": "assistant"}], continue_final_message=True)
    parts = [{"role": "assistant", "content": [{"type": "text", "text": "so "}]}]
    made = Tokenizer(tokenizer(), chat_template="<{{ messages[0].content[0].text }}>")
    assert made.render_chat(parts, continue_final_message=True) == "<so "
    assert made.render_chat(parts) == "<so >"
