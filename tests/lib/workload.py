"""Requests for tests and demo: a fixed list for a seed, of the kinds that clients send, in words the model knows."""

import random

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"

HEROES = [
    "a fox named Lily",
    "a lighthouse keeper",
    "a godwit named Pip",
    "a bear and a bee",
    "a girl named Emma and her boat",
    "an old sailor",
    "a hare named Hugo",
    "two friends and a storm",
    "a small whale",
    "a baker named Rosa",
    "an owl who could not sleep",
    "a dog named Max",
]
QUESTIONS = [
    "Tell me about whales.",
    "How do I make tomato soup?",
    "What can you tell me about godwits?",
    "Describe a harbour.",
    "How can I sleep better?",
    "Write a poem about the sea.",
    "Name four birds.",
    "What is your favourite colour?",
    "Do you like winter?",
    "Who are you?",
    "Tell me about foxes.",
    "I am going to Norway.",
]
ANSWERS = [
    "Once upon a time a small bird stood at the edge of the sea and looked at the waves. It was a long way to the "
    "south, and the wind was cold.",
    "Whales are the largest animals in the sea. They breathe air and must come up to the surface.",
    "You need tomatoes, an onion, some salt and a little time. Cut the onion, cook it slowly, and add the tomatoes.",
]
LONG_TOKENS = 1200  # several times what others ask for, in a context of 2,048
STOPS = [["The end"], ["sea", "storm"], ["home."], ["\n\n", "never"], [" and then"]]


def stories(count, seed, max_tokens, ignore_eos=True):
    """Chat requests for long stories, sampled at temperature 0.8 with a seed each, and logprobs.

    With ignore_eos each has exactly max_tokens; without it a story may end before.
    """
    r = random.Random(seed)
    heroes = r.sample(HEROES, len(HEROES))
    return [
        (
            CHAT,
            {
                "model": "tattler-3m",
                "messages": [{"role": "user", "content": f"Tell me a long story about {heroes[i % len(heroes)]}."}],
                "temperature": 0.8,
                "seed": seed * 1000 + i,
                "max_tokens": max_tokens,
                "ignore_eos": ignore_eos,
                "logprobs": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
        )
        for i in range(count)
    ]


def history(r, turns):
    """A conversation of so many finished turns and an open question: a long prompt.

    The turns are the same for every request, as those of one service's users partly are; what follows is not.
    """
    messages = [{"role": "system", "content": "You are a helpful assistant."}] if turns else []
    for k in range(turns):
        messages += [
            {"role": "user", "content": QUESTIONS[k % len(QUESTIONS)]},
            {"role": "assistant", "content": " ".join(ANSWERS)},
        ]
    return messages + [{"role": "user", "content": f"Tell me a story about {r.choice(HEROES)}."}]


def mixed_one(i, r, max_tokens):
    """Request i: every kind of sampling comes up, alone and together."""
    body = {
        "model": "tattler-3m",
        "max_tokens": r.randint(max(1, max_tokens // 3), max_tokens),
        "seed": r.getrandbits(31),
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "temperature": r.choice([0, 0, 0.7, 1.0, 1.3]),
    }
    if i % 5 == 0:
        path, body["prompt"] = TEXT, f"The {r.choice(['storm', 'old harbour', 'winter', 'little bird'])} "
        body["logprobs"] = r.choice([1, 3])
    else:
        path, body["messages"] = CHAT, history(r, r.choice([0, 0, 0, 1, 2, 5]))
        body["logprobs"] = True
        if r.random() < 0.3:
            body["top_logprobs"] = r.randint(1, 5)
    if i % 4 == 1:
        body.update(n=2, max_tokens=max(1, body["max_tokens"] // 2))
    if i % 6 == 2:
        body.update(presence_penalty=0.6, frequency_penalty=0.4)
    if i % 9 == 3:
        body["repetition_penalty"] = 1.2
    if i % 7 == 4:
        body["stop"] = r.choice(STOPS)
    if i % 8 == 5:
        body.update(top_p=0.9, top_k=40)
    if i % 11 == 6:
        body["ignore_eos"] = False
    return path, body


def mixed(count, seed, max_tokens):
    """`count` streamed requests as a list of (path, body)."""
    r = random.Random(seed)
    return [mixed_one(i, r, max_tokens) for i in range(count)]


def outlasting(count, seed, max_tokens):
    """mixed(), and a story of LONG_TOKENS behind it: under way still when a slow client has read the others' first tokens."""
    return mixed(count, seed, max_tokens) + stories(1, seed, LONG_TOKENS)


def max_tokens_of(requests):
    """Tokens that the requests ask for at most, over all choices."""
    return sum(body["max_tokens"] * body.get("n", 1) for _, body in requests)
