"""``lrc eval --keep``, and the page that shows what it found."""

from __future__ import annotations


def test_an_evaluation_is_kept_and_shown(lrc, model, packed, text, tmp_path):
    conditions = ("--text", text, "--ctx", 32, "--windows", 3, "--quiet")
    made = lrc("eval", packed, "--against", model, *conditions, "--keep", "--json").check()
    kept = packed / "lrc-quality.json"
    try:
        assert str(kept) in made.err
        page = tmp_path / "page.html"
        lrc("report", packed, "-o", page).check()
        shown = page.read_text()
        assert f"{made.json['perplexity_ratio']:.4g}" in shown
        low, high = made.json["kl_interval"]
        assert f"{low:.3g} to {high:.3g}" in shown
        assert f"--text {text.name} --ctx 32 --windows 3" in shown
    finally:
        kept.unlink()


def test_a_model_of_others_is_compared_by_its_json(lrc, model, text, tmp_path):
    file = tmp_path / "small-q4.gguf"
    file.write_bytes(bytes(1000))
    asked = ("--against", model, "--text", text, "--ctx", 32, "--windows", 3, "--quiet")
    made = lrc("eval", model, *asked, "--size-of", file, "--json").check()
    assert (made.json["name"], made.json["file_bytes"]) == ("small-q4", 1000)
    (tmp_path / "peer.json").write_text(made.out)
    page = tmp_path / "page.html"
    lrc("report", "--compare", *[tmp_path / "peer.json"] * 2, "-o", page).check()
    assert "small-q4" in page.read_text()


def test_only_compressed_models_keep_figures(lrc, model, text):
    refused = lrc("eval", model, "--text", text, "--keep")
    assert refused.code == 1
    assert "is not compressed" in refused.err
    assert not (model / "lrc-quality.json").exists()
