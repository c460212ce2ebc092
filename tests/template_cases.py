"""Chat templates in the ways in which models write them; for the golden script only."""

from __future__ import annotations

from typing import Any

from tokenizer_cases import BOS, EOS, token

Case = dict[str, Any]
HI = [{"role": "user", "content": "Hi <b>é</b>"}]
TALK = [
    {"role": "system", "content": "  Be brief. "},
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Hi  "},
    {"role": "user", "content": "Why?"},
]
ANSWER = [HI[0], {"role": "assistant", "content": "Because "}]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "wéather", "parameters": {"type": "object", "properties": {"b": 1}}},
    }
]
CHATML = """\
{% for message in messages %}
    {% if loop.first and message['role'] != 'system' %}
        {{- '<|im_start|>system\\nYou help.<|im_end|>\\n' }}
    {% endif %}
  {{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
    {%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{% endif %}
"""
BLOCKS = """\
{{ bos_token }}
{% for m in messages %}
  {% set role = m.role | upper %}
  <{{ role }}>
    {{ m.content | trim }}
  {# nothing here #}
  </{{ role }}>
{% endfor %}
  end{% if add_generation_prompt %} go{% endif %}

"""
INST = """\
{%- if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}
{%- set messages = messages[1:] %}{% endif -%}
{{ bos_token }}{% for m in messages -%}
{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate') }}{% endif %}
{%- if m['role'] == 'user' %}{{ '[INST] ' + (system + '\\n' if system is defined and loop.first
else '') + m['content'] | trim + ' [/INST]' }}{% else %}{{ m['content'] + eos_token }}{% endif %}
{%- endfor %}"""
SPOKEN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
GENERATION = """\
{% set ns = namespace(n=0) %}{% set who = 'none' %}
{% for m in messages %}
{% if m.role == 'assistant' %}
{% generation %}{% set who = 'model' %}{% set ns.n = ns.n + 1 %}
{{ loop.index }}{{ m.content }}{{ who }}
{% endgeneration %}
{% else %}{{ m.content }}{% endif %}
{{ who }}
{% endfor %}{{ ns.n }}"""
LISTS = """\
{% set ns = namespace(last=-1, found=false) %}
{% for m in messages[::-1] %}{% if m.role == 'user' and not ns.found %}
{% set ns.found = true %}{% set ns.last = messages | length - 1 - loop.index0 %}{% endif %}
{% endfor %}{{ ns.last }}{{ messages[-1]['content'].split('h')[0].strip('W') }}
{% for key, value in messages[0].items() %}{{ key }}={{ value }};{% endfor %}
{{ messages | map(attribute='role') | join(',') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}
{{ {'b': 1, 'a': 2} | dictsort }}{{ 'x' is string }}{{ messages is iterable }}
{{ messages[0] is mapping }}{{ nothing is defined }}{{ nothing | default('none') }}{{ nothing }}
{{ '%05.2f' | format(1.5) }}{{ 'a-b' | replace('-', '+') }}{{ [1, 2] + [3] }}{{ 7 // 2 }}"""
MACRO = """\
{% macro block(m, depth=1) -%}
{% if depth %}{{ block(m, depth - 1) }}{% endif %}[{{ m.role }}]{%- endmacro %}
{% for m in messages %}{% if loop.index > 2 %}{% break %}{% endif %}{% if loop.first %}
{% continue %}{% endif %}{{ block(m, 2) }}{% endfor %}"""
TOOL = """\
{% if tools %}{% for t in tools %}{{ t | tojson }}
{{ t.function.parameters | tojson(indent=2) }}{% endfor %}{% else %}no tools{% endif %}
{% if tools is none %}none{% endif %}"""
DOCUMENTS = (
    "{% for d in documents %}{{ d.title }}: {{ d['text'] }}\n{% endfor %}{{ documents is none }}"
)
PARTS = """\
{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}
{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% else %}<img_0>{% endif %}
{% endfor %}{% endif %}{% endfor %}"""


def case(
    name: str,
    template: object = None,
    messages: list[dict[str, Any]] | None = None,
    files: dict[str, Any] | None = None,
    named: dict[str, Any] | None = None,
    **options: Any,
) -> Case:
    """One conversation; ``template`` stands in the settings, ``files`` beside them."""
    settings = {"bos_token": BOS, "eos_token": EOS} if named is None else named
    settings = settings | ({"chat_template": template} if template is not None else {})
    return {
        "name": name,
        "base": "byte_level",
        "tokenizer": {},
        "files": {"tokenizer_config.json": settings, **(files or {})},
        "messages": TALK if messages is None else messages,
        "options": {"add_generation_prompt": True} | options,
    }


def _expression(name: str, source: str) -> Case:
    return case(name, "{{ " + source + " }}")


NAMED = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t" + TOOL}]
THOUGHT = "{{ messages[-1].reasoning_content }}|{{ messages[-1].thinking }}"
CASES = [
    case("chatml", CHATML, HI),
    case("chatml with a system prompt", CHATML),
    case("no generation prompt", CHATML, add_generation_prompt=False),
    case("blocks on lines of their own", BLOCKS),
    case("instructions", INST),
    case("roles that do not alternate", INST, [HI[0], HI[0]]),
    case("generation tag", GENERATION),
    case("generation tag with blank control", "{%- generation -%} a {%- endgeneration -%} b"),
    case("unknown tag", "{% transcript %}{% endtranscript %}"),
    case("slices, namespaces, filters, tests", LISTS),
    case("macros, break and continue", MACRO),
    case("tools", TOOL, tools=TOOLS),
    case("no tools", TOOL),
    case("documents", DOCUMENTS, documents=[{"title": "A", "text": "b <c>"}]),
    case("named: default", NAMED),
    case("named: tools", NAMED, tools=TOOLS),
    case("named: no default", NAMED[1:]),
    case("named, in an object", {"default": "d{{ eos_token }}", "rag": "r"}),
    case("template file", "settings", files={"chat_template.jinja": "file {{ bos_token }}\n"}),
    case("template file with CRLF", files={"chat_template.jinja": SPOKEN.replace("\n", "\r\n")}),
    case(
        "template folder",
        "settings",
        tools=TOOLS,
        files={"chat_template.jinja": "file", "additional_chat_templates/tool_use.jinja": "folder"},
    ),
    case(
        "template folder alone", "settings", files={"additional_chat_templates/rag.jinja": "folder"}
    ),
    case("no template"),
    case(
        "roles only in the older map",
        "{{ bos_token }}Hi{{ eos_token }}",
        named={},
        files={"special_tokens_map.json": {"bos_token": token(BOS), "eos_token": EOS}},
    ),
    case("no roles at all", "{{ bos_token }}Hi{{ eos_token }}", named={}),
    case(
        "a role of its own",
        "{{ image_token }}{{ pad_token }}{{ audio_token }}",
        named={"image_token": "<img_0>", "extra_special_tokens": {"audio_token": "<tool>"}},
    ),
    case(
        "a token given as an object",
        "{{ eos_token }}Hi",
        named={"eos_token": token(EOS, __type="AddedToken")},
    ),
    case(
        "further variables",
        "{{ enable_thinking }}{{ eos_token }}",
        variables={"enable_thinking": False, "eos_token": "x"},
    ),
    case(
        "content that is None",
        "{{ messages[0] | tojson }}{{ messages[0].content is defined }}",
        [{"role": "user", "content": None, "name": "a"}],
    ),
    case("reasoning under an older name", THOUGHT, [*HI, {"role": "assistant", "thinking": "hm"}]),
    case("reasoning under another name", THOUGHT, [*HI, {"role": "assistant", "reasoning": "hm"}]),
    case(
        "parts of content",
        PARTS,
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what?"}]}],
    ),
    case(
        "continues, blanks kept",
        SPOKEN,
        ANSWER,
        continue_final_message=True,
        add_generation_prompt=False,
    ),
    case(
        "continues, blanks stripped",
        CHATML.replace("['content']", "['content'].strip()"),
        ANSWER,
        continue_final_message=True,
        add_generation_prompt=False,
    ),
    case(
        "continues, text left out",
        "{{ messages[0].content }}",
        ANSWER,
        continue_final_message=True,
        add_generation_prompt=False,
    ),
    case("trailing newlines", "a\n\n"),
    case("special tokens in a message", CHATML, [{"role": "user", "content": f"x{EOS}{BOS}"}]),
    _expression("tojson", "messages | tojson"),
    _expression("tojson in ASCII", "'é<' | tojson(ensure_ascii=True)"),
    _expression(
        "tojson, separators and order",
        "{'b': 'é', 'a': [1, none, true]} | tojson(separators=(',', ':'), sort_keys=true)",
    ),
    _expression("tojson, indent by place", "{'a': {'b': 1}} | tojson(false, 4)"),
    _expression("tojson of what is not JSON", "nothing | tojson"),
    _expression("the date", "strftime_now('%Y') | int > 2000 and strftime_now('a%%b')"),
    _expression("loop helpers", "range(3) | list + [dict(a=1)]"),
    _expression("a sum of text and number", "messages[0].content + 1"),
    _expression("division by zero", "1 / 0"),
    _expression("a range without end", "range(10 ** 7) | list"),
    _expression("an attribute of nothing", "messages[9].content.x"),
    _expression("a call of nothing", "nothing()"),
    _expression("a refusal without words", "raise_exception()"),
    _expression("a change of the messages", "messages.append(1)"),
    _expression("a way out of the sandbox", "messages.__class__.__mro__"),
    _expression("a missing filter", "messages | no_such_filter"),
    case("recursion without end", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
    case("an open block", "{% if messages %}"),
    case("an include", "{% include 'other' %}"),
]
