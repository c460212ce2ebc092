"""The model card of a compressed model: Markdown with the front matter that the hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrc.cli.page import choices
from lrc.cli.page.page import Output, finite
from lrc.cli.page.remarks import remarks
from lrc.cli.tables import MISSING, human_size, number

CARD = "README.md"
_LIBRARY = "lrc"
#: Lines of a front matter that hold one plain value.
_FIELD = re.compile(r"^(\w+):[ \t]*(.+?)[ \t]*$", re.MULTILINE)
_FRONT = re.compile(r"\A\ufeff?---\r?\n(.*?)^---[ \t]*$", re.DOTALL | re.MULTILINE)
_PLAIN = re.compile(r"[A-Za-z][\w./-]*")
_LICENSE = ("license", "license_name", "license_link")


@dataclass(frozen=True)
class Origin:
    """What a card says of the original: its name on the hub and the fields of its licence."""

    base: str
    license: Mapping[str, str]


def front_matter(text: str) -> dict[str, str]:
    r"""Plain values at the top of a card; lists and the like are left out.

    Examples
    --------
    >>> front_matter('---\nlicense: "mit"\ntags:\n- a\n---\n# Title')
    {'license': 'mit'}
    >>> front_matter("# Title")
    {}
    """
    found = _FRONT.match(text)
    fields = _FIELD.findall(found[1]) if found else []
    return {name: value.strip("\"'") for name, value in fields}


def origin_of(output: Output, base: str | None, license_id: str | None) -> Origin:
    """What is known of the original: what is given, else what the model's files say.

    The card that came with the original has its licence. Its ``base_model`` is another model; that
    of a card written here is the original.
    """
    path = output.source.path / CARD
    fields = front_matter(path.read_text("utf-8", "replace")) if path.is_file() else {}
    own = fields.get("library_name") == _LIBRARY
    known = output.report["source"].get("name") or (fields.get("base_model") if own else None)
    licence = {name: fields[name] for name in _LICENSE if name in fields}
    return Origin(base or known or "", {"license": license_id} if license_id else licence)


def card(output: Output, origin: Origin, name: str) -> str:
    """The card; ``name`` is how the model is asked for: ORG/NAME, or its directory's name."""
    return "\n".join(
        [
            *_front(output, origin), "", f"# {name.rsplit('/', 1)[-1]}", "",
            *_summary(output, origin), "", *_use(output, name), "", *_sizes(output), "",
            *_quality(output), "", *_made(output), "", *_warnings(output),
            *_licence(output, origin), "",
        ]
    )  # fmt: skip


def _front(output: Output, origin: Origin) -> list[str]:
    fields = {**origin.license, "library_name": _LIBRARY, "pipeline_tag": _task(output)}
    if origin.base:
        fields |= {"base_model": origin.base, "base_model_relation": "quantized"}
    lines = [f"{name}: {_scalar(value)}" for name, value in fields.items()]
    return ["---", *lines, "tags:", "- lrc", "- quantized", "- low-rank", "---"]


def _task(output: Output) -> str:
    return "automatic-speech-recognition" if output.hears else "text-generation"


def _scalar(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)


def _summary(output: Output, origin: Origin) -> list[str]:
    base = f"`{origin.base}`" if origin.base else "A model"
    sizes = output.sizes
    return [
        f"{base}, compressed by `lrc` to {number(sizes['bits_per_weight_linear'])} bits a weight: "
        f"{human_size(sizes['file_bytes'])} in place of {human_size(output.original_bytes)}. Every "
        "matrix W is stored as Q + L R: codes of few bits, and factors of low rank. It runs on a "
        "CPU, without PyTorch."
    ]


def _use(output: Output, name: str) -> list[str]:
    if _task(output) != "text-generation":
        return ["```sh", "pip install 'lrc-llm[hub]'", f"lrc transcribe {name} AUDIO.wav", "```"]
    return [
        "```sh", "pip install 'lrc-llm[hub,chat]'", f"lrc chat {name}", "```", "",
        "```python", "import lrc", "",
        f'for piece in lrc.load("{name}").generate("The capital of France is", 20):',
        '    print(piece, end="", flush=True)', "```",
    ]  # fmt: skip


def _sizes(output: Output) -> list[str]:
    sizes = output.sizes
    rows = [
        ("weights", f"{output.report['source']['parameters']:,}"),
        ("bits a weight, linear layers", number(sizes["bits_per_weight_linear"])),
        ("bits a weight, whole file", number(sizes["bits_per_weight_file"])),
        ("weight files", human_size(sizes["file_bytes"])),
        *((f"of these, {what}", human_size(count)) for what, count in output.breakdown.items()),
    ]
    return ["## Size", "", *_table(("", ""), rows)]


def _quality(output: Output) -> list[str]:
    rows = [
        (
            f"{e.text}, {e.windows} windows of {e.ctx} tokens",
            number(e.perplexity),
            _with(e.perplexity_ratio, e.perplexity_ratio_interval),
            _with(e.kl_divergence, e.kl_interval),
            MISSING if e.top1_agreement is None else f"{100 * e.top1_agreement:.1f} %",
        )
        for e in output.quality.evaluations
    ]
    if not rows:
        return ["## Quality", "", "Not measured."]
    head = ("text", "perplexity", "ratio to the original", "KL divergence, nats", "same top token")
    note = "In brackets: 95 % intervals, by a paired bootstrap over windows."
    return ["## Quality", "", *_table(head, rows), "", note]


def _with(value: float | None, interval: Sequence[float | None] | None) -> str:
    ends = finite(interval)
    return number(value) + (f" ({number(ends[0], 3)} to {number(ends[1], 3)})" if ends else "")


def _made(output: Output) -> list[str]:
    report = output.report
    lines = [
        "## How it was made",
        "",
        f"By {report.get('library', 'lrc')}; {choices.calibration(report)}.",
    ]
    if choices.is_calibrated_by_caller(report):
        lines.append("The calibration tokens were given by a program.")
    differing = [(name, here) for name, here, _ in choices.differing(report.get("spec", {}))]
    lines += ["", "```sh", *choices.commands(report, output.quality.evaluations), "```", ""]
    lines.append("`spec.json` is the `spec` of `lrc.json`. Options that are not the defaults:")
    return [*lines, "", *_table(("option", "value"), differing or [("none", "")])]


def _warnings(output: Output) -> list[str]:
    told, notes = remarks(output.report, output.quality.outdated)
    every = [*(w.text for w in told), *(f"{n.text} (matrices: {n.count})" for n in notes)]
    return ["## Warnings", "", *(f"- {_line(text)}" for text in every), ""] if every else []


def _licence(output: Output, origin: Origin) -> list[str]:
    known = origin.license.get("license_name") or origin.license.get("license")
    texts = [p.name for p in output.source.other_files() if p.name.upper().startswith("LICEN")]
    said = f"That of the original: {known}." if known else "That of the original, which see."
    also = f" Its text is in {', '.join(f'`{name}`' for name in texts)}." if texts else ""
    return ["## Licence", "", said + also]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(_line(cell) for cell in row) + " |" for row in cells]


def _line(text: str) -> str:
    """Text that is one cell or item, and no markup."""
    return " ".join(re.sub(r"([|<>\[\]`*_])", r"\\\1", text).split())
