"""A process that is interrupted over and over while it generates: see nn/test_interrupts.py.

Writes how many interrupts were heard; ends with an error if any text is not the right one.
"""

from __future__ import annotations

import faulthandler
import random
import signal
import sys
import threading
import time

import numpy as np
from packed_models import packed_model

from lrc.nn.engine import prompt as prompt_engine
from lrc.nn.engine import prompt_program
from lrc.run.generate import Decoder, generate
from lrc.run.sampler import Sampler
from lrc_kernels.simd import paths as simd_paths

WIDER = {"hidden_size": 96, "intermediate_size": 272, "num_key_value_heads": 2}
LONG = np.random.default_rng(41).integers(0, 48, 200)
SHORT = LONG[:2]
armed = False


def interrupt(signum, frame):
    """As Python does, but only where the loop below can hear it."""
    if armed:
        raise KeyboardInterrupt


def send(count, seed, main):
    rng = random.Random(seed)
    for _ in range(count):
        time.sleep(rng.uniform(0.005, 0.08))
        signal.pthread_kill(main, signal.SIGINT)


def decode_on(decoder, cache):
    """Logits after 40 tokens, of a decoder that goes on where it was interrupted."""
    global armed
    logits = None
    done = cache.length
    while done < 40:
        before = cache.branch()
        armed = True
        try:
            logits = decoder.advance(LONG[done : done + 1])
            armed = False
            done += 1
        except KeyboardInterrupt:
            armed = False
            # The last token may have been counted before the interrupt: it is not done.
            cache.adopt(before)
    return logits.copy()


def main(codebook, threads, count):
    global armed
    prompt_program.path = lambda: simd_paths.PATHS[0]
    prompt_engine.CHUNK = 64
    model = packed_model(WIDER, codebook=codebook)
    sampler = Sampler(temperature=1.0)

    def text(prompt, new):
        return list(generate(model, prompt, new, sampler, threads=threads))

    def kept():
        decoder = Decoder(model, 40, threads)
        return decode_on(decoder, decoder.cache)

    expected = text(SHORT, 50), text(LONG, 2), kept()
    # Kernels are compiled now: what takes longer hangs.
    faulthandler.dump_traceback_later(150, exit=True)
    signal.signal(signal.SIGINT, interrupt)
    sender = threading.Thread(target=send, args=(count, 7, threading.main_thread().ident))
    sender.start()
    heard = 0
    while sender.is_alive():
        for i in range(2):
            armed = True
            try:
                found = text((SHORT, LONG)[i], (50, 2)[i])
                armed = False
                assert found == expected[i]
            except KeyboardInterrupt:
                armed = False
                heard += 1
        np.testing.assert_array_equal(kept(), expected[2])
    for i in range(2):
        assert text((SHORT, LONG)[i], (50, 2)[i]) == expected[i]
    sys.stdout.write(f"{heard}\n")


if __name__ == "__main__":
    main((sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), int(sys.argv[4]))
