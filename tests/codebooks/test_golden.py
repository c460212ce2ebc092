"""Codes once written decode for ever to the same values, in whatever container they lie."""

import json

import numpy as np
import pytest
from codebook_cases import EVERY
from make_golden_decoded import GOLDEN, digest, main, planes, shape_of

from lrc.codebooks import get_codebook

EXPECTED = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("key", EVERY, ids=str)
def test_codes_decode_to_what_they_did(key):
    assert digest(*key) == EXPECTED["{} {}".format(*key)]


def test_no_codebook_that_was_ever_written_is_gone():
    assert set(EXPECTED) <= {f"{name} {bits}" for name, bits in EVERY}


@pytest.mark.parametrize("key", EVERY, ids=str)
def test_the_codes_are_many(key):
    found = planes(*key)
    get_codebook(*key).check(found, *shape_of(*key))
    assert min(len(np.unique(plane)) for plane in found) > 60


def test_the_script_changes_nothing_that_is_known(tmp_path):
    copy = tmp_path / "decoded.json"
    copy.write_text('{"e8p 2": "as it was"}')
    main(copy)
    found = json.loads(copy.read_text(encoding="utf-8"))
    assert found == {**EXPECTED, "e8p 2": "as it was"}
