"""Files of text: what is read, from which byte, and what is refused by name."""

from __future__ import annotations

import itertools
import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.base.text_file import TextFile, read_texts
from lrc.errors import CalibrationError

#: JSON lines end with a line feed alone; these look like line ends to Python.
SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c"


def test_text_is_one_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text('{"text": "not parsed"}\nsecond é\n', encoding="utf-8")
    assert list(read_texts(path)) == ['{"text": "not parsed"}\nsecond é\n']


@given(texts=st.lists(st.text(max_size=20), max_size=4), escape=st.booleans())
def test_json_lines_come_back(texts, escape, tmp_path_factory):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    texts = [*texts, SEPARATORS]
    lines = [json.dumps({"id": 3, "text": t}, ensure_ascii=escape) for t in texts]
    lines.insert(1, "")
    content = "\n".join(lines) + "\n"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    if any("\ud800" <= c <= "\udfff" for t in texts for c in t) and not escape:
        with pytest.raises(CalibrationError, match="not UTF-8 text"):
            list(read_texts(path))
    else:
        assert list(read_texts(path)) == texts


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("plain words", "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        ("[1]", 'line 2: expected an object with a string "text", found a list'),
        ('"text"', "line 2: expected an object"),
        ('{"content": "a", "id": 1}', 'found the keys "content", "id"; rename the key'),
        ('{"messages": []}', 'found the keys "messages"'),
        ('{"text": 5}', 'found a "text" that is a int'),
        ("{}", "plain text in a .txt file"),
    ],
)
def test_malformed_lines_are_named(line, message, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(CalibrationError, match=message):
        list(read_texts(path))


def test_null_records_are_left_out_and_counted_once(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": null}\n{"text": "a"}\n{"text": null, "id": 2}\n', encoding="utf-8")
    file = TextFile(path)
    for _ in range(2):
        assert [text for text, _ in file.pieces()] == ["a"]
    assert file.skipped == 2


def test_half_pairs_are_counted_and_the_line_is_kept(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "bad \\ud83d half \\ud83d\\ude00"}\n{"text": "é"}\n')
    file = TextFile(path)
    assert [text for text, _ in file.pieces()] == ["bad \ud83d half \U0001f600", "é"]
    assert file.replaced == 1


@pytest.mark.parametrize("name", ["a.jsonl", "a.JSONL", "a.JsonL", "a.ndjson"])
def test_json_lines_are_known_in_any_case_with_mark_and_windows_line_ends(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b'\xef\xbb\xbf{"text": "one"}\r\n{"text": "two\\r\\n"}\r\n')
    assert list(read_texts(path)) == ["one", "two\r\n"]


def test_text_with_mark_and_windows_line_ends_is_as_without(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert list(read_texts(path)) == ["one\ntwo\nthree\n"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'[{"text": "a"}]', "is .json, and plain text or .jsonl is read; write one"),
        ("a.JSON", b"[]", "is .json"),
        ("a.parquet", b"PAR1", "is .parquet"),
        ("a.csv", b"text\na\n", "is .csv"),
        ("a.txt.gz", b"\x1f\x8b", "is .gz, and plain text or .jsonl is read; unpack it"),
        ("a.txt", b"\xff\xfea\x00", "is UTF-16; save it as UTF-8"),
        ("b.txt", b"ok\nfine\n\xe9t\xe9\n", "b.txt, line 3: not UTF-8 text"),
    ],
)
def test_other_kinds_are_refused_by_name(name, content, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=message) as refused:
        list(read_texts(path))
    assert name in str(refused.value)


def test_folders_and_absent_files_are_told_apart(tmp_path):
    with pytest.raises(CalibrationError, match="is a directory; name the text files in it"):
        list(read_texts(tmp_path))
    with pytest.raises(CalibrationError, match="does not exist"):
        list(read_texts(tmp_path / "absent.txt"))


#: Words, so that a cut within one shows; some are long, some of several bytes a character.
WORDS = st.lists(
    st.text(st.sampled_from("abé漢\U0001f600"), min_size=1, max_size=30), min_size=1, max_size=60
)


@given(words=WORDS, breaks=st.sampled_from([" ", "\n", "\n\n "]), data=st.data())
def test_pieces_of_text_join_again_from_any_byte(words, breaks, data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrc.base.text_file._SEARCHED", 24)
        path = tmp_path_factory.mktemp("text") / "a.txt"
        content = breaks.join(words)
        raw = content.encode()
        path.write_bytes(raw)
        file = TextFile(path)
        start = data.draw(st.integers(0, len(raw) - 1))
        pieces = list(file.pieces(start, 7))
        joined = "".join(text for text, _ in pieces)
        assert content.endswith(joined)
        assert len(raw) - len(joined.encode()) <= max(start + 24, 0)
        ends = [end for _, end in pieces]
        assert all(a < b for a, b in itertools.pairwise([start, *ends]))
        assert ends[-1:] in (
            [],
            [len(raw)],
        )


@given(words=WORDS, most=st.sampled_from([5, 64, None]), data=st.data())
def test_records_are_read_on_from_where_they_were_left(words, most, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    texts = [" ".join(words), "second one", "third"]
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    file = TextFile(path)
    start = data.draw(st.integers(0, file.size - 1))
    pieces = list(file.pieces(start, most))
    joined = "".join(text for text, _ in pieces)
    assert "".join(texts).endswith(joined)
    assert [end for _, end in pieces] == sorted(end for _, end in pieces)
    if start == 0:
        assert joined == "".join(texts)


def test_a_record_in_the_midst_is_found_and_its_error_has_its_line(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": f"text {i} " + "x" * 300}) for i in range(2000)]
    lines[1500] = "{"
    path.write_text("\n".join(lines), encoding="utf-8")
    place = len("\n".join(lines[:1499]).encode())
    with pytest.raises(CalibrationError, match="line 1501: not JSON"):
        list(TextFile(path).pieces(place))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_large_file_is_not_read_whole(name, tmp_path):
    path = tmp_path / name
    line = "words and more words, " * 20 if name == "a.txt" else json.dumps({"text": "word " * 80})
    path.write_text((line + "\n") * 40_000, encoding="utf-8")
    file = TextFile(path)
    tracemalloc.start()
    taken = list(itertools.islice(file.pieces(file.size // 2, 8192), 3))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(taken) == 3
    assert peak < 500_000 < file.size
