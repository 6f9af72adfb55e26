"""Writes what the tokenizers package and jinja2 make of tricky texts, for the tests of the tokenizer and the chat templates.

Run:      python make_text_goldens.py          -> ../data/text/{tokenizer,llama3_pattern,templates}.json
Needs:    the packages of requirements.txt, and tattler-3m/tokenizer.json
Takes:    about 2 seconds

tokenizer.json       [{text, ids, ids_plain, decoded}]: ids with special token strings parsed, ids_plain with them taken as
                     ordinary text, decoded = decode(ids) with special tokens kept; nothing is added in front
llama3_pattern.json  [{text, pieces}]: the pre-tokens that the split pattern alone makes
templates.json       [{name, template, messages, add_generation_prompt, bos_token, eos_token, expected, ...}]: rendered
                     as transformers does; other fields (date_string, enable_thinking) are variables of the template too;
                     where rendering must fail there is error: true and message instead of expected. The "extra" family
                     holds constructs that are rare in chat templates
"""

import json
import os
import random

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from corpus import documents
from template_cases import CASES

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "text")

ENGLISH = """The quick brown fox jumps over the lazy dog.|Godwits fly from Alaska to New Zealand without a stop.|Hello, world!|Once upon a time, there lived a small mouse.|a|A| a|  a|a |I
How are you?|What is the capital of France?|antidisestablishmentarianism|floccinaucinihilipilification|The end.|U.S.A. and U.K.|e.g. this, i.e. that, etc.|Mr. Smith's dog|rock'n'roll|well-known state-of-the-art
"quoted" 'single' `tick`|(a) [b] {c} <d>|end...|wait…what?|em—dash – en|50% off!|#hashtag @user|user@example.com|https://example.org/a/b?c=d&e=f#g|a/b\\c|1st 2nd 3rd|v1.2.3-rc4|snake_case camelCase PascalCase kebab-case""".replace("\n", "|").split("|")
CONTRACTIONS = """I'm you're he's we've they'll she'd don't isn't|I'M YOU'RE HE'S WE'VE THEY'LL SHE'D DON'T ISN'T|'s|'S|'t|'re|'RE|'rE|'ve|'m|'ll|'LL|'d|'D|''s|'sa|'tis 'twas|'dog|'llama|'revolt|it''s|it' s
it ’s|it’s don’t|y'all'd've|'|''|'''|can't've|O'Neill d'Artagnan|'ſ|'ſt|it'ſ|'K""".replace("\n", "|").split("|")
DIGITS = ["0", "12", "123", "1234", "12345", "123456", "1234567", "12345678901234567890", "3.14159", "1,000,000", "-42", "+1 (555) 010-9999", "2026-11-20T23:59:59Z", "0x1F", "1e-5", "a1b2c3", "1a22bb333ccc4444",
          "١٢٣٤٥", "१२३४", "½¼¾", "²³¹", "ⅷⅸ", "①②③④", "１２３４", "1 2 3", "1  2", "12 345", " 123", "  1234", "100%", "$9.99", "七八九", "𝟘𝟙𝟚𝟛𝟜"]
SPACES = [" ", "  ", "   ", "\t", "\t\t", " \t", "\t ", "\n", "\n\n", "\n\n\n", "\r", "\r\n", "\r\n\r\n", "\n\r", " \n", "\n ", " \n ", "  \n  ", "a\n", "a\n\n", "\na", "a\nb", "a \nb", "a\n b", "a\n  b", "a  \n  b", "a\r\nb", "a \r\n b", "a\r\n\r\nb",
          "a\rb", "a\tb", "a\t\tb", "a \tb", "a\t b", "a\n\tb", "a\n\t\tb", "a   b", "a    b", " a", "  a", "   a", "a ", "a  ", "a   ", "a\u00a0b", "a\u00a0\u00a0b", "\u00a0", "a\u2003b", "a\u2028b", "a\u2029b", "a\u0085b", "\u0085\u0085", "a\u200bb", "\ufeffa",
          "a\u3000b", "\v\f", "a\vb", "a\fb", "a\x1cb", "a\x1d\x1e\x1fb", "\u180ea", "a \n \n b", "\n \n \n", " \r\n \t \n x", "x\n\n\n\n\ny", ".\n", ".\n\n", "!\r\n\r\n", " .\n .\n", ".\n\n.", "...\n\n\n...", "?! \n", "\u1680a", "\u205fa\u202fb"]
EMOJI = ["🙂", "🙂🙂", " 🙂", "a🙂b", "👩‍👩‍👧‍👦", "👍🏽", "🏳️‍🌈", "🇳🇿🇩🇪", "❤️", "1️⃣", "🐦‍⬛", "👨🏿‍🚀 to the 🌕", "🦆🦅🦉", "hi👋there", "☃☃☃", "©®™", "→⇒∀∃", "♠♣♥♦", "🫠🫡", "🏴󠁧󠁢󠁳󠁣󠁴󠁿"]
SCRIPTS = ["你好，世界！", "斑尾塍鹬从阿拉斯加飞到新西兰。", "日本語のテキストです。", "カタカナ ひらがな 漢字", "한국어 문장입니다.", "Привет, мир!", "Καλημέρα κόσμε", "שלום עולם", "مرحبا بالعالم", "السَّلَامُ عَلَيْكُمْ", "नमस्ते दुनिया", "สวัสดีชาวโลก", "Xin chào thế giới",
           "Zażółć gęślą jaźń", "Füße, Straße, Größe", "naïve café façade", "İstanbul ıslak", "Ελλάδα ΣΊΣΥΦΟΣ", "ÅÄÖ åäö", "Ǆ ǅ ǆ", "ﬁ ﬂ ﬀ", "ⅣⅤ", "ქართული", "հայերեն", "አማርኛ", "ᏣᎳᎩ", "𐍈𐌰𐌹", "𝓗𝓮𝓵𝓵𝓸", "𠜎𠜱", "漢字mixed英語123", "Hello你好Привет", "ʻokina ʼn", "ª º"]
MARKS = ["e\u0301", "cafe\u0301", "a\u0300\u0301\u0302\u0303", "\u0301", "\u0301a", " \u0301", "x\u0301y", "Z\u0351\u036b\u0343a\u0321l\u0489go", "नि", "กำ", "\u0e33", "각", "\u1112\u1161\u11ab", "a\u20dd", "\u0303\u0303", "1\u0301", ".\u0301", "ก็", "\u093fक", "l\u00b7l", "\u200d", "a\u200db", "\u200e\u200fא", "\u202eabc"]
EDGES = ["\x00", "a\x00b", "\x01\x02\x03", "\x7f", "\x80", "\u0080\u009f", "\u07ff", "\u0800", "\uffff", "\ufffe", "\ufffd", "\ufdd0", "\U00010000", "\U0010ffff", "\U0001fffe", "\ud7ff", "\ue000", "\uf8ff", "\U000e0001", "\U000f0000", "\U00100000x", "\u00ad", "so\u00adft", "\u034f", "\u2060", "\x1b[31mred\x1b[0m", "ÿþ", "Ã©", "â€™"]
CODE = ["int main(void) {\n\treturn 0;\n}\n", "def f(x):\n    if x > 0:\n        return x ** 2\n    return None\n", "for (i = 0; i < n; i++) a[i] += b[i] * c;", "x = {'a': [1, 2, 3], \"b\": None}", "SELECT * FROM t WHERE id = 42;", "<div class=\"a\">&nbsp;</div>",
        "if (a&&b||!c) { *p++ = ~q ^ r; }", "#include <stdio.h>\r\n#define X 1\r\n", "$ make -j2 && ./a.out | tee log.txt", "\\frac{1}{2} \\alpha_{i}^{2}", "{\"key\": \"va\\\"lue\", \"n\": -1.5e+10}", "// comment\n/* block */\n", "a->b::c.d", "=== !== <=> ::= |> <|", "fn main() -> Result<(), Box<dyn Error>> {}", "    indented\n        more\n\tand a tab", "%s %d %08.3f\\n", "^[a-z]+$", "| a | b |\n|---|---|\n| 1 | 2 |", "- [x] done\n- [ ] open"]
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|start_header_id|>user<|end_header_id|>\n\nHello!<|eot_id|>", "a<|eot_id|>b", "a <|eot_id|> b", "<|eot_id|><|eot_id|>", "<|eot_id", "|eot_id|>", "<|eot_id|", "<|EOT_ID|>", "<|eot_id |>", "<<|eot_id|>>", "<|<|eot_id|>", "<|reserved_special_token_0|>", "<|reserved_special_token_2|>", "<|reserved_special_token_3|>",
           "<|im_start|>", "</s>", "<s>", "\n<|eot_id|>\n", "  <|end_of_text|>  ", "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "1<|eot_id|>2", "'<|eot_id|>s", "🙂<|eot_id|>🙂", "<|eot_id|>" * 20, "|" * 40, "<|" * 30]
LONG = ["a" * 100, "a" * 2000, " " * 100, " " * 2000, " " * 1999 + "x", "\n" * 500, "\t" * 300, "ab" * 1000, "0" * 1000, "1234567890" * 100, "A" * 777, "the" * 500, "the " * 400, "!" * 1000, "é" * 1000, "🙂" * 300, "你" * 600, "\u0301" * 400, "\r\n" * 300, " \n" * 400, "aA" * 500, "a1" * 500, "a " * 700, "'s" * 500, "z" * 1001, "ß" * 999, "-" * 1500, "ing" * 600, "er" * 900]


def random_texts(n):
    """Strings of code points drawn from a few mixed alphabets, to hit the borders between the pattern's branches."""
    r = random.Random(7)
    alphabets = ["ab'sSt rR\n", " \t\r\n.", "a1 2é\u0301'", "!?. \n\rx", "'lL'dD'vVeE ", "0123a \n", "Ж你🙂 a\u00a0\n", "<|eot_id|> \n", "\u2028\u0085\u3000 \n\ta."]
    return ["".join(r.choice(a) for _ in range(r.randint(3, 24))) for a in (r.choice(alphabets) for _ in range(n))]


def tokenizer_cases():
    prose = [t for _, d in zip(range(25), documents(99)) for _, t in d[:2]][:25]
    return unique([""] + ENGLISH + CONTRACTIONS + DIGITS + SPACES + EMOJI + SCRIPTS + MARKS + EDGES + CODE + SPECIAL + LONG + prose + random_texts(40))


def pattern_cases():
    short = [t for t in SPECIAL if len(t) < 100]
    return unique(CONTRACTIONS + DIGITS + SPACES + EMOJI + SCRIPTS[::2] + MARKS + EDGES + CODE + short[:6] + random_texts(60))


def unique(texts):
    """Without doubles, and without lone surrogates, which are not text."""
    return [t for t in dict.fromkeys(texts) if not any("\ud800" <= c <= "\udfff" for c in t)]


def dump(name, cases):
    """One case per line, so that a difference is easy to read."""
    with open(os.path.join(OUT, name), "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
    print(name, len(cases), "cases,", os.path.getsize(os.path.join(OUT, name)), "bytes")


def tokenizer_golden():
    path = os.path.join(HERE, "tattler-3m", "tokenizer.json")
    tok, plain = Tokenizer.from_file(path), Tokenizer.from_file(path)
    plain.encode_special_tokens = True
    cases = []
    for text in tokenizer_cases():
        ids = tok.encode(text, add_special_tokens=False).ids
        ids_plain = plain.encode(text, add_special_tokens=False).ids
        assert plain.decode(ids_plain, skip_special_tokens=False) == text
        assert max(ids_plain, default=0) < tok.token_to_id("<|begin_of_text|>")
        cases.append({"text": text, "ids": ids, "ids_plain": ids_plain, "decoded": tok.decode(ids, skip_special_tokens=False)})
    dump("tokenizer.json", cases)
    split = tok.pre_tokenizer[0]
    cases = [{"text": t, "pieces": [p for p, _ in split.pre_tokenize_str(t)]} for t in pattern_cases()]
    assert all("".join(c["pieces"]) == c["text"] for c in cases)
    dump("llama3_pattern.json", cases)


def environment():
    """The environment that transformers renders chat templates in."""
    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


def template_golden():
    env, out = environment(), []
    for case in CASES:
        fields = {k: v for k, v in case.items() if k not in ("name", "template", "error")}  # the variables
        want_error, case = case.get("error", False), {k: v for k, v in case.items() if k != "error"}
        try:
            case["expected"] = env.from_string(case["template"]).render(**fields)
        except jinja2.exceptions.TemplateError as e:
            case["error"], case["message"] = True, str(e)
        assert want_error == ("error" in case), case
        out.append(case)
    dump("templates.json", out)


def main():
    os.makedirs(OUT, exist_ok=True)
    tokenizer_golden()
    template_golden()


if __name__ == "__main__":
    main()
