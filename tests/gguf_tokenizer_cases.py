"""Texts on which tokenizers go wrong, and where the golden data of GGUF tokenizers lie."""

from __future__ import annotations

from pathlib import Path

GOLDEN = Path(__file__).parent / "data" / "golden" / "gguf"

TEXTS = (
    "",
    " ",
    "Hello world",
    " leading, and trailing   ",
    "I've it's we'll they'd I'M DON'T WE'LL 'RE you'Ve 'sure ’tis x's",
    "7 12 123 1234 12345 1234567 3.14 1,000,000 0x1F 2024-05-06 ½ ²³ Ⅷ ٣٤٥ 十二",
    "a  b   c    d     e\tf\t\tg\t \th",
    "one\ntwo\n\nthree\r\nfour\r\n\r\n  five \n six\n\n\n   seven\n",
    "\n \n\n \t\n",
    "camelCase HTTPServer snake_case kebab-case XMLHttp2Request ÄÖÜber ǅungla",
    "!?... --- === ``` \"quoted\" (a) [b] {c} <d> $5 +1 ~x ^y a|b @c #d %e & 'f' \\ /",
    "你好，世界。我想在apple工作1314151天～ こんにちは、世界 カタカナ 안녕하세요 세계",
    "😀😁🚀👨‍👩‍👧‍👦 🇩🇪 ✅x✅ ☃️",
    "e\u0301te\u0301 cafe\u0301 café n\u0303 a\u0328\u0301 हिन्दी भाषा ภาษาไทย កាន់តែ",
    "مرحبا بالعالم، كيف الحال؟ שלום עולם فارسی۔ বাংলা।",
    "нещо на Български ελληνικά Ελλάδα đŠž ﬁ Ａｂｃ１２",
    "def f(x):\n    if x > 0:\n\t\treturn [i**2 for i in range(x)]  # ok\n\n\nfor(;;++i){}\n",
    "<html><br/>&nbsp;https://example.com/a?b=c&d=1 user@mail.org C:\\dir\\file.txt",
    "a;\n/b/\n\n/c //\n/",
    "zero\u200bwidth no\u00a0break\u3000wide\u2003em \ufeffbom \u0000nul \x1besc",
)
