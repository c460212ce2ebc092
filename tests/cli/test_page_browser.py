"""The page in a browser, as wide as a phone: nothing is wider. Skips where there is no Chromium."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lrc.cli.page import page as pages
from lrc.measure.quality import KeptEvaluation, keep, model_digest
from lrc.measure.samples import PROMPTS, Sample
from lrc.parts.packed import PackedCheckpoint

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
GOLDEN = Path(__file__).parent.parent / "data" / "golden" / "v2" / "model"
PHONE = 390

pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")


def overflow(page: str, folder: Path) -> tuple[int, list[str]]:
    """How much wider a page is than a phone, and which of its elements, all details open.

    A frame is as narrow as it is told to be; windows have a least width.
    """
    framed = folder / "framed.html"
    framed.write_text(
        f'<iframe id="f" width="{PHONE}" height="4000" style="border:0" srcdoc="'
        + html.escape(page)
        + """"></iframe><pre id="found"></pre><script>
        onload = () => {
          const frame = document.getElementById("f"), inside = frame.contentDocument;
          inside.querySelectorAll("details").forEach(d => { d.open = true; });
          const width = inside.documentElement.clientWidth;  // less a bar for scrolling down
          const wide = inside.documentElement.scrollWidth - width;
          const out = e => !e.closest(".scroll, pre, svg")
            && e.getBoundingClientRect().right > width + 1;
          const names = [...inside.querySelectorAll("body *")].filter(out).map(e => e.outerHTML);
          document.getElementById("found").textContent = JSON.stringify([wide, names]);
        };</script>""",
        encoding="utf-8",
    )
    shown = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=3000", "--dump-dom",
         framed.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', shown, re.DOTALL)
    wide, names = json.loads(html.unescape(found))
    return wide, names


def test_nothing_is_wider_than_a_phone(tmp_path: Path) -> None:
    model = PackedCheckpoint.open(shutil.copytree(GOLDEN, tmp_path / ("long-name-" * 12)))
    digest = model_digest(model)
    long = "word" * 60 + " <b>bold</b> " + "and so on " * 40
    said = [Sample(digest, "original-" * 9, prompt, True, long, long) for prompt in PROMPTS]
    figures = KeptEvaluation(
        digest, "text" * 30 + ".txt", "0", 512, 40, 10240, "second-half", "i8", 12.3,
        against="original-" * 9, perplexity_ratio=1.234, perplexity_ratio_interval=(1.2, 1.3),
        kl_divergence=0.1234, kl_interval=(0.12, 0.13), top1_agreement=0.87,
    )  # fmt: skip
    keep(model, figures, said)
    output = pages.Output.open(model.path)
    page = pages.render(output, [output, pages.Output.open(model.path)])
    assert "<b>bold</b>" not in page
    assert overflow(page, tmp_path) == (0, [])


def test_what_is_wider_is_found(tmp_path: Path) -> None:
    wide, names = overflow("<!doctype html><div style='width: 500px'>x</div>", tmp_path)
    assert wide > 100
    assert len(names) == 1
