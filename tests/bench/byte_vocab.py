"""A vocabulary for models of random weights: a token for each byte, which text becomes, and words that nothing becomes.

The bytes are written in GPT-2's alphabet (printable stand-ins for those that are not), ids 0 to 255 in its order; then come
`fillers`. There is one merge, because readers want one; what it makes is a filler, too.
"""

BYTES = 256
MERGE = ("\u0120", "\u0120")  # two spaces


def byte_letters():
    """GPT-2's alphabet: the letter of each byte, printable bytes first."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(BYTES) if b not in shown]
    return [chr(b) for b in shown] + [chr(BYTES + i) for i in range(len(hidden))]


def vocabulary(size):
    """The token of each id; size > 257."""
    letters = byte_letters()
    assert size > BYTES + 1
    return letters + ["".join(MERGE)] + [f"\u0120t{i}" for i in range(BYTES + 1, size)]


def tokenizer_json(size):
    """What tokenizer.json holds, as Hugging Face's tokenizers write it."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {token: i for i, token in enumerate(vocabulary(size))},
            "merges": [" ".join(MERGE)],
        },
    }
