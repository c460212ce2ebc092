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


def test_only_compressed_models_keep_figures(lrc, model, text):
    refused = lrc("eval", model, "--text", text, "--keep")
    assert refused.code == 1
    assert "is not compressed" in refused.err
    assert not (model / "lrc-quality.json").exists()
