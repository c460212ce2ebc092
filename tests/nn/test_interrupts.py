"""Interrupts and errors between the shares of a token: nothing crashes, hangs or goes wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from packed_models import packed_model
from waiting import eventually

from lrc.nn.engine import prompt_program
from lrc.run.generate import Decoder, generate
from lrc_kernels.cpu.engine import prompt, token
from lrc_kernels.simd import paths as simd_paths

SCRIPT = Path(__file__).parent.parent / "interrupted.py"
IDS = np.random.default_rng(43).integers(0, 48, 30)


@pytest.fixture(autouse=True)
def _prompt_engine_on_every_path(monkeypatch):
    monkeypatch.setattr(prompt_program, "path", lambda: simd_paths.PATHS[0])


@pytest.fixture
def model():
    return packed_model({"intermediate_size": 64}, codebook=("trellis12", 2))


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(("codebook", "count"), [("trellis12", 200), ("e8p", 60)])
def test_a_process_outlives_interrupts(codebook, count):
    """200 real ones while two threads decode and work through prompts, by engines and blocks."""
    command = [sys.executable, str(SCRIPT), codebook, "2", "2", str(count)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > count // 4


class Failing:
    """The compiled function, but the share of one thread raises as often as is wanted."""

    def __init__(self, run, thread_at, thread, times):
        self.run, self.thread_at, self.thread, self.left = run, thread_at, thread, times
        self.signatures = run.signatures

    def __call__(self, *args):
        if args[self.thread_at] == self.thread and self.left > 0:
            self.left -= 1
            raise KeyboardInterrupt
        return self.run(*args)


def logits(model, threads, parts):
    """After each of the parts of the text; one that is interrupted is tried again."""
    decoder, found, start, interrupts = Decoder(model, len(IDS), threads), [], 0, 0
    for part in parts:
        for _ in range(10):
            try:
                found.append(decoder.advance(IDS[start : start + part]).copy())
                break
            except KeyboardInterrupt:
                interrupts += 1
                assert decoder.cache.length == start
        start += part
    return np.array(found), interrupts


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("parts", [(1,) * 6, (20, 10)], ids=["tokens", "prompts"])
def test_an_interrupt_before_the_first_share(model, monkeypatch, parts, threads):
    """Where the others have theirs already, they give up and write nothing."""
    expected, _ = logits(model, 1, parts)
    logits(model, threads, parts)
    monkeypatch.setattr(token, "run_token", Failing(token.run_token, -3, 0, 2))
    monkeypatch.setattr(prompt, "run_prompt", Failing(prompt.run_prompt, -2, 0, 2))
    found, interrupts = logits(model, threads, parts)
    assert interrupts == 2
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("parts", [(1,) * 6, (20, 10)], ids=["tokens", "prompts"])
def test_a_helper_that_fails(model, monkeypatch, parts):
    expected, _ = logits(model, 1, parts)
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    monkeypatch.setattr(token, "run_token", Failing(token.run_token, -3, 1, 1))
    monkeypatch.setattr(prompt, "run_prompt", Failing(prompt.run_prompt, -2, 1, 1))
    found, _ = logits(model, 2, parts)
    np.testing.assert_array_equal(found, expected)
    assert eventually(lambda: [t.exc_type for t in told] == [KeyboardInterrupt])


@pytest.mark.parametrize("codebook", [("trellis12", 2), ("e8p", 2)], ids=str)
def test_one_model_serves_several_threads_at_once(codebook):
    """Engines share what they read and nothing that they write."""
    model = packed_model({"intermediate_size": 64}, codebook=codebook)
    prompts = [IDS[:n] for n in (1, 2, 5, 20)]
    expected = [list(generate(model, p, 60, threads=1)) for p in prompts]
    found = {}

    def work(i):
        for _ in range(3):
            found[i] = list(generate(model, prompts[i], 60, threads=1 + i % 2))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(prompts))] == expected


def test_engines_are_made_once_until_the_model_is_released(model):
    first, second = Decoder(model, 8), Decoder(model, 8)
    assert first._engine._program is second._engine._program
    assert first._prompt._program is second._prompt._program
    before = first.advance(IDS[:1]).copy()
    model.release()
    again = Decoder(model, 8)
    assert again._engine._program is not first._engine._program
    assert again._prompt._program is not first._prompt._program
    np.testing.assert_array_equal(again.advance(IDS[:1]), before)
    first.advance(IDS[1:2])
