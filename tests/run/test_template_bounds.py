"""Chat templates that take time or memory without end are refused; those of models are not."""

from __future__ import annotations

import time

import pytest

from lrc.errors import SpecError
from lrc.run.chat import render_chat

MESSAGES = [{"role": "user", "content": "hello"}]
GROW = "{% set ns = namespace(a=%s) %}{% for i in range(200) %}{% set ns.a = "
END = " %}{% endfor %}{{ ns.a }}"
HOSTILE = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "recursive loop": "{% for a in range(99999) recursive %}{% if loop.depth < 4 %}"
    "{{ loop(range(99999)) }}{% endif %}{% endfor %}",
    "macro": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}"
    "{{ f(99) }}",
    "product": "{{ 'a' * 10**10 }}",
    "list": "{{ ([1] * 10**10) | length }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "squares": GROW.replace("%s", "3") + "ns.a * ns.a" + END,
    "doubling": GROW.replace("%s", "'ab'") + "ns.a ~ ns.a" + END,
    "sum": GROW.replace("%s", "'ab'") + "ns.a + ns.a" + END,
    "nested": GROW.replace("%s", "[1]") + "[ns.a, ns.a]" + END,
    "nested json": GROW.replace("%s", "[1]") + "[ns.a, ns.a]" + " %}{% endfor %}{{ ns.a|tojson }}",
    "nested text": GROW.replace("%s", "[1]") + "[ns.a, ns.a]" + " %}{% endfor %}{{ 'a' ~ ns.a }}",
    "replace": GROW.replace("%s", "'ab'") + "ns.a.replace('a', 'aaaaaaaa')" + END,
    "center": "{{ 'a'.center(10**10) }}",
    "filter": "{{ 'a'|center(10**10) }}",
    "constant filter": "{{ 'a'|center(10000000000) }}",
    "format": "{{ '{:10000000000}'.format(1) }}",
    "format filter": "{{ '%10000000000d'|format(1) }}",
    "percent": "{{ '%10000000000d' % 1 }}",
    "star": "{{ '%*d' % (10000000000, 1) }}",
    "output": "{% for a in range(99999) %}{{ 'a' * 10000 }}{% endfor %}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_without_end_is_refused_within_a_second(name: str) -> None:
    began = time.process_time()
    with pytest.raises(SpecError, match="template failed") as caught:
        render_chat(HOSTILE[name], MESSAGES, {})
    assert time.process_time() - began < 1.5
    assert len(str(caught.value)) < 300


def test_bounds_leave_room_for_long_conversations() -> None:
    """With everything that templates look at in a loop, and over a million characters."""
    template = (
        "{% for m in messages if m.role != 'x' %}{{ loop.index ~ '/' ~ loop.length }}"
        "{% if loop.first %}<{% endif %}{{ m.role + ': ' + m['content'].strip()|trim }}"
        "{{ loop.previtem.role if not loop.first else '' }}{{ m|tojson|length }}{{ 3 * 2 % 4 }}"
        "{% if loop.last %}>{% endif %}{% else %}none{% endfor %}{{ '%s' % messages|length }}"
    )
    messages = [{"role": "user", "content": "ab" * 300}] * 2000
    text = render_chat(template, messages, {})
    assert text.startswith("1/2000<user: abab")
    assert text.endswith("user6312>2000")
    assert len(text) > 1_000_000
    assert render_chat(template, [], {}) == "none0"


def test_a_template_cannot_lift_its_bounds() -> None:
    names = ("lrc_stepped", "lrc_sized", "environment")
    template = "".join(f"{{% set {name} = none %}}" for name in names) + HOSTILE["loops"]
    with pytest.raises(SpecError, match="runs on and on"):
        render_chat(template, MESSAGES, {})
