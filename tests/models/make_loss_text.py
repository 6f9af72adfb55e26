"""Text by which tests/unit/test_int8_loss.c measures what a weight format loses, in the form that tattler-3m was trained on.

Run:      python make_loss_text.py > ../data/loss/text.txt
Needs:    nothing but Python 3.9

The corpus has the form of the model's training text but not its seed: the model has not seen these documents.
"""

from corpus import documents

SEED, DOCUMENTS = 90210, 20


def text_of(document):
    parts = ["<|begin_of_text|>"]
    for role, body in document:
        if role == "text":
            parts.append(body)
        else:
            parts.append(f"<|start_header_id|>{role}<|end_header_id|>\n\n{body}<|eot_id|>")
    return "".join(parts) + "<|end_of_text|>"


print("".join(text_of(d) for _, d in zip(range(DOCUMENTS), documents(SEED))), end="")
