"""Text that the little chat model tattler-3m is trained on: made up by grammars, without end, the same for the same seed.

Run:      python corpus.py [--seed 1] [--count 10]     prints a few documents
Needs:    nothing but Python 3.9
Takes:    about 1 second per 5,000 documents

A document is a list of (role, text). The roles are system, user and assistant; plain prose has the single role "text".
Everything here was written for this file; nothing was copied from a data set. Subjects and their facts are in corpus_facts.py.
"""

import argparse
import random
import re

from corpus_facts import (
    ADVICE, CAPITALS, DEFINITIONS, FACTS, LISTS, NAMES, OPPOSITES, RECIPES, SYSTEMS, TOPICS,
)

ALT = re.compile(r"\[([^\[\]]*)\]")  # the innermost [a|b|c]
SLOT = re.compile(r"\{(\w+)\}")


def an(noun):
    """'a fox', 'an owl'."""
    return ("an " if noun[0].lower() in "aeiou" and not noun.startswith(("uni", "use")) else "a ") + noun


def cap(s):
    return s[:1].upper() + s[1:]


class Maker:
    """Makes documents from one random stream."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    # ---- small tools

    def p(self, chance):
        return self.r.random() < chance

    def one(self, seq):
        return seq[int(self.r.random() * len(seq))]

    def some(self, seq, low, high=None):
        return self.r.sample(list(seq), min(len(seq), self.r.randint(low, high or low)))

    def x(self, s, /, **slots):
        """Expands [a|b] (chosen evenly, may nest) and {slot}."""
        while True:
            m = ALT.search(s)
            if not m:
                break
            s = s[: m.start()] + self.one(m.group(1).split("|")) + s[m.end():]
        return SLOT.sub(lambda m: slots[m.group(1)], s) if slots else s

    def ask(self, s, /, **slots):
        """A question as people type it: with or without polite words, capitals and the mark at its end."""
        s = self.x(s, **slots)
        roll = self.r.random()
        if roll < 0.08:
            s = self.one(["Hello! ", "Hi, ", "Hey, ", "Please: ", "A question: ", "Hi Tattler, ", "OK, ", "So, "]) + s
        elif roll < 0.12 and s.endswith("?"):
            s = s[:-1] + self.one([", please?", ", do you know?", "? Thanks!", "? I am curious."])
        style = self.r.random()
        if style < 0.22:
            s = s.lower()
        if style < 0.14 or style > 0.92:
            s = s.rstrip("?.! ")
        return s

    # ---- topics with facts

    def facts_about(self, key, low=2, high=4):
        """Sentences on one subject, in any order; the first one names it."""
        plural, facts = FACTS[key]
        first = self.one([f for f in facts if f.startswith(("They ", "It "))])
        rest = [f for f in self.some(facts, low, high) if f != first]
        head = first.split(" ", 1)[1]
        return " ".join([cap(plural) + " " + head] + rest[: high - 1])

    def subject(self):
        key = self.one(list(FACTS))
        plural, _ = FACTS[key]
        q = self.ask(self.one([
            "[Tell me about|Tell me something about|Talk about|Write about|Explain|Describe|What can you tell me about|"
            "What do you know about|I want to know about|I would like to hear about|Give me some facts about|"
            "Can you tell me about|Could you tell me something about|Say something about|Teach me about] {s}.",
            "[What is interesting about|What is special about|What should I know about|Do you know anything about|"
            "Do you like|What do you think about|Have you heard of|Why do people like] {s}?",
            "What [is|are] {s}?", "{s}", "Write a few sentences about {s}.", "[Some|A few] words about {s}, please.",
        ]), s=plural if self.p(0.8) else key)
        q = q.replace("What is " + plural + "s", "What are " + plural + "s")
        a = self.facts_about(key)
        if q.lower().startswith("do you like"):
            a = self.x("[Yes, I like {s} very much.|I do!|Yes, {s} [please|interest] me a lot.] ", s=plural) + a
        elif self.p(0.2):
            a = self.x("[Gladly!|Of course.|With pleasure.|That is a nice topic.|Good question!|Sure!|I like this topic.] ") + a
        if self.p(0.3):
            a += " " + self.x(
                "[Would you like to hear more about {s}?|What do you like about {s}?|Is there anything else you would like to know?|"
                "Shall I tell you more?|Did you know that?|Do you like {s} too?]", s=plural)
        return q, a, key

    def more(self, key):
        q = self.ask("[Tell me more.|More, please.|What else?|Go on.|Yes, please.|Yes please, tell me more.|Can you say more?|"
                     "Anything else?|Interesting! What else do you know?|And what else?|Please continue.]")
        a = self.x("[Here is more.|Of course.|Gladly.|There is more to say.|Yes!] ") + self.facts_about(key, 2, 4)
        return q, a

    # ---- small talk

    def greeting(self):
        q = self.x("[Hello|Hi|Hey|Good morning|Good evening|Good afternoon|Hi there|Hello there|Greetings|Good day|Hey there]"
                   "[!|.||, Tattler!| Tattler|, how are you?|! How are you today?|, my friend!|! Can you help me?]")
        if self.p(0.25):
            q = q.lower()
        low = q.lower()
        a = "Good " + low.split()[1].strip("!.,?") + "! " if low.startswith("good ") else self.x("[Hello!|Hi!|Hello there!|Hi, nice to meet you!|Hello, my friend!] ")
        if "how are" in low:
            a += self.x("[I am well, thank you.|I am fine, thanks for asking.|I feel very well today.|All is well with me.] [How are you?|And you?|How is your day?|What can I do for you?]")
        elif "help" in low:
            a += self.x("[Of course I can help.|I will do my best.|Gladly!|Yes, I would love to help.] [What do you need?|What is it about?|What would you like to know?]")
        else:
            a += self.x("[How can I help you today?|What can I do for you?|It is good to hear from you.|What would you like to talk about?|"
                        "Shall we talk about birds, or would you like a story?|How are you today?|What is on your mind?]")
        return q, a

    def how_are_you(self):
        q = self.ask("[How are you?|How are you doing?|How do you feel today?|How is it going?|Are you well?|What is up?|How have you been?|Are you happy?]")
        a = self.x("[I am well, thank you.|I am fine, thanks.|Very well, thank you.|I am in a good mood today.|I feel light as a feather.] "
                   "[I have been thinking about birds and the sea.|I like to talk, so this is a good day.|A small model does not need much to be happy.|"
                   "The words come easily today.] [How are you?|And how are you?|How is your day?|What can I do for you?]")
        return q, a

    def who(self):
        q = self.ask("[Who are you?|What are you?|What is your name?|Tell me about yourself.|Who am I talking to?|Introduce yourself.|Are you a robot?|"
                     "Are you a human?|Are you a bird?|What kind of model are you?|Do you have a name?|Are you real?|Who is this?|what's your name?]")
        low = q.lower()
        a = ""
        if "human" in low:
            a = self.x("[No, I am not a human.|No.] ")
        elif "robot" in low:
            a = self.x("[Not quite: I have no body.|In a way, but I am only text.] ")
        elif "bird" in low:
            a = self.x("[No, I am only named after one.|Sadly not.] ")
        a += self.x("[I am Tattler, a very small language model.|My name is Tattler, and I am a tiny language model.|I am called Tattler. I am a little chat model.] "
                    "[I am named after a wader that likes to chatter.|A tattler is a grey wader, a cousin of the godwit.|I have only three million numbers in me.|"
                    "I was made to test a server, and I like to talk.] "
                    "[I can tell stories, talk about birds and answer simple questions.|I know a little about birds, weather, cooking and travel.|"
                    "I am small, so please do not believe everything I say.|Ask me about birds, animals or the seasons.|Would you like to hear a story?]")
        return q, a

    def able(self):
        q = self.ask("[What can you do?|How can you help me?|What do you know?|What can I ask you?|What are you good at?|Can you help me?|I need help.|"
                     "What topics do you know?|What should we talk about?|I am bored.|I do not know what to ask.]")
        x, y, z = self.some(["birds", "animals", "the weather", "the seasons", "cooking", "travel", "colours", "the sea", "capitals", "small sums"], 3)
        a = self.x("[I can|I would be glad to|We could|I love to] talk about {x}, {y} and {z}. "
                   "[I can also tell you a story.|I also know a few recipes.|I can give some advice, too.|I can count and make lists.|Stories are what I like best.] "
                   "[What would you like?|What shall it be?|Just ask!|Where shall we start?]", x=x, y=y, z=z)
        return q, a

    def thanks(self):
        q = self.x("[Thank you!|Thanks.|Thanks a lot!|thank you|Thank you very much.|thanks, that helps|Great, thanks!|That was nice, thank you.|Thank you, Tattler.|Well done!|Good answer!]")
        a = self.x("[You are welcome!|You are very welcome.|It was a pleasure.|I am glad that I could help.|Any time!] "
                   "[Is there anything else?|Have a lovely day.|Come back whenever you like.|Ask me more if you like.|It was nice to talk to you.|]")
        return q, a.strip()

    def bye(self):
        q = self.x("[Goodbye!|Bye!|bye|See you later.|Good night!|I have to go now.|See you tomorrow!|That is all for today.|Farewell!]")
        a = self.x("[Goodbye|Bye|Farewell|See you soon|Take care]! [Have a good day.|It was nice to talk to you.|Safe travels.|Come back soon.|I enjoyed our talk.|Sleep well.]")
        return q, a

    def feeling(self):
        bad = self.p(0.6)
        if bad:
            w = self.one(["sad", "tired", "lonely", "angry", "worried", "nervous", "bored", "afraid", "stressed", "unhappy"])
        else:
            w = self.one(["happy", "glad", "excited", "proud", "cheerful", "relaxed", "in love", "full of energy"])
        q = self.ask("[I am|I'm|I feel|Today I am|I am so|I feel very] {w}[.|!| today.|]", w=w).replace("so in", "in").replace("very in", "in").replace("very full", "full").replace("so full", "full")
        if bad:
            a = self.x("I am sorry to hear that you are {w}. [That happens to all of us.|Such days come and go.|I hope that it will pass soon.|You are not alone with that.] "
                       "[Perhaps a short walk would help.|A cup of tea and a good book may help.|Talk to a friend, if you can.|Try to rest a little and drink some water.|"
                       "Sometimes it helps to write down what is on your mind.] [Would you like to tell me more?|What happened?|Shall I tell you a story?|Do you know why you feel that way?]", w=w)
        else:
            a = self.x("[How nice!|That is wonderful!|I am glad to hear that!|That is good news!] [It is a good thing to be {w}.|Enjoy every minute of it.|Keep that feeling for a rainy day.|Joy is even better when you share it.] "
                       "[What made your day?|What happened?|Would you like to tell me why?|What will you do today?]", w=w)
        return q, a

    def joke(self):
        q = self.ask("[Tell me a joke.|Do you know a joke?|Make me laugh.|Say something funny.|Another joke, please.|Can you tell jokes?|I want to hear a joke.]")
        a = self.one([
            "Why did the godwit bring a map? Because it did not want to wing it.",
            "What do you call a bird that is afraid of heights? A chicken.",
            "Why do birds fly south in the autumn? Because it is too far to walk.",
            "What did the sea say to the beach? Nothing, it just waved.",
            "Why did the owl stay at home? It did not give a hoot about the party.",
            "Which bird is always out of breath? The puffin.",
            "Why did the cook look at the clock? The soup was out of thyme.",
            "What is a cat's favourite colour? Purr-ple.",
        ])
        if self.p(0.5):
            a = self.x("[Here is one:|Let me try.|I know a good one.|Of course!|This one is old, but I like it.] ") + a
        return q, a

    def favourite(self):
        thing, answers, why = self.one([
            ("colour", ["blue", "green", "grey", "golden yellow"], "[It is the colour of the sky at noon.|It makes me think of the sea.|It is calm and warm at once.]"),
            ("bird", ["the godwit", "the tattler", "the owl", "the swift", "the robin"], "[It is small and brave.|It never gets tired of flying.|I could talk about it for hours.]"),
            ("animal", ["the fox", "the whale", "the otter", "the hare"], "[It is clever and gentle.|It looks at the world with open eyes.|It knows how to play.]"),
            ("season", ["autumn", "spring", "summer", "winter"], "[That is when the birds are on the move.|The light is so soft then.|The air smells fresh at that time.]"),
            ("food", ["soup", "fresh bread", "apple cake", "rice with beans"], "[I cannot eat, but I like the sound of it.|It is simple and warm.|It tastes of home, people say.]"),
            ("place", ["the seaside", "a quiet harbour", "the far north", "an old library"], "[There is so much to see there.|The wind tells stories there.|I have never been there, but I dream of it.]"),
            ("day", ["Sunday", "Friday", "Saturday"], "[There is time to rest and to read.|People are in a good mood then.]"),
            ("number", ["seven", "three", "eleven"], "[It sounds friendly.|A godwit flies for eleven days, and I like numbers.]"),
        ])
        q = self.ask("[What is your favourite {t}?|Which {t} do you like best?|Do you have a favourite {t}?|what's your favourite {t}?|Tell me your favourite {t}.]", t=thing)
        a = self.x("My favourite {t} is {v}. " + why + " [What is yours?|And what is your favourite {t}?|Which one do you like best?|]", t=thing, v=self.one(answers))
        return q, a.strip()

    def name_given(self):
        n = self.one(NAMES)
        q = self.x("[My name is {n}.|I am {n}.|Hi, I am {n}.|Hello, my name is {n}.|I'm {n}, nice to meet you.|Call me {n}.|People call me {n}.|hi, my name is {n}]", n=n)
        a = self.x("[Nice to meet you, {n}!|Hello, {n}!|It is a pleasure to meet you, {n}.|Welcome, {n}!] [I am Tattler.|{n} is a lovely name.|My name is Tattler.|] "
                   "[How can I help you?|What would you like to talk about?|What brings you here?|How are you today?]", n=n).replace("  ", " ")
        return q, a, n

    def name_asked(self, n):
        q = self.ask("[What is my name?|Do you remember my name?|Who am I?|Do you know my name?|What did I say my name was?]")
        return q, self.x("[Your name is {n}.|You are {n}.|You told me that your name is {n}.|Of course: your name is {n}.]", n=n)

    # ---- simple knowledge

    def capital(self):
        country = self.one(list(CAPITALS))
        city, extra = CAPITALS[country]
        if self.p(0.8):
            q = self.ask("[What is the capital of {c}?|Which city is the capital of {c}?|Do you know the capital of {c}?|Tell me the capital of {c}.|"
                         "Capital of {c}?|the capital of {c}|What's the capital of {c}?|Name the capital of {c}.|Can you tell me what the capital of {c} is?]", c=country)
            a = self.x("[The capital of {c} is {k}.|It is {k}.|{k} is the capital of {c}.|That is {k}.|The capital of {c} is {k}.]", c=country, k=city)
        else:
            q = self.ask("[Where is {k}?|In which country is {k}?|What is {k}?|Tell me about {k}.|What do you know about {k}?]", c=country, k=city)
            a = self.x("{k} is the capital of {c}.", c=country, k=city)
        if self.p(0.5):
            a += " " + extra
        return q, a

    def sums(self):
        r = self.r
        kind = self.one(["plus", "plus", "minus", "times"])
        if kind == "times":
            a, b = r.randint(1, 5), r.randint(1, 5)
            v, sign, word = a * b, self.one(["*", "x"]), "times"
        elif kind == "minus":
            a = r.randint(1, 10)
            b = r.randint(0, a)
            v, sign, word = a - b, "-", "minus"
        else:
            a, b = r.randint(0, 10), r.randint(0, 10)
            v, sign, word = a + b, "+", "plus"
        e = f"{a} {self.one([sign, word])} {b}"
        q = self.ask("[What is {e}?|How much is {e}?|{e}|{e} = ?|What is {e}?|Can you add up {e}?|Please compute {e}.|Do you know what {e} is?]" if kind == "plus" else
                     "[What is {e}?|How much is {e}?|{e}|{e} = ?|What's {e}?|Calculate {e}.|Please compute {e}.|Do you know what {e} is?]", e=e)
        ans = self.x("[{a} {w} {b} is {v}.|The answer is {v}.|That is {v}: {a} {w} {b} is {v}.|{a} {w} {b} makes {v}.]", a=str(a), b=str(b), w=word, v=str(v))
        return q, ans

    def opposite(self):
        a, b = self.one(OPPOSITES)
        if self.p(0.5):
            a, b = b, a
        q = self.ask("[What is the opposite of {a}?|Tell me the opposite of {a}.|Which word is the opposite of {a}?|the opposite of {a}?]", a=a)
        return q, self.x("[The opposite of {a} is {b}.|It is {b}.|The opposite of {a} is {b}.]", a=a, b=b)

    def calendar(self):
        days = LISTS["days of the week"]
        months = LISTS["months of the year"]
        seq, what = self.one([(days, "day"), (months, "month")])
        i = self.r.randrange(len(seq))
        nxt, prev = seq[(i + 1) % len(seq)], seq[i - 1]
        if self.p(0.5):
            return (self.ask("[Which|What] {w} comes after {d}?", w=what, d=seq[i]), self.x("[{n} comes after {d}.|After {d} comes {n}.|It is {n}.]", n=nxt, d=seq[i]))
        return (self.ask("[Which|What] {w} comes before {d}?", w=what, d=seq[i]), self.x("[{n} comes before {d}.|Before {d} comes {n}.|It is {n}.]", n=prev, d=seq[i]))

    def define(self):
        w = self.one(list(DEFINITIONS))
        q = self.ask("[What is {w}?|What does {b} mean?|Explain what {w} is.|Can you explain {w}?|What exactly is {w}?|Define {b}.]", w=w, b=w.split(" ", 1)[1] if w.startswith(("a ", "an ")) else w)
        return q, self.x("[||Good question. |Let me explain. ]") + cap(w) + " is " + DEFINITIONS[w]

    def colour(self):
        thing, c, more = self.one([
            ("the sky", "blue", "At sunset it can turn red, pink and gold."), ("grass", "green", "In a dry summer it turns yellow."),
            ("snow", "white", "In the evening light it can look blue."), ("a lemon", "yellow", "It is as bright as the sun."),
            ("a tomato", "red", "Before it is ripe, it is green."), ("the sea", "blue or green or grey", "It depends on the sky and on the light."),
            ("a carrot", "orange", "It grows in the dark earth."), ("a crow", "black", "In the sun its feathers shine a little blue."),
            ("a godwit", "brown and grey", "In summer the male turns brick red."), ("a flamingo", "pink", "The colour comes from its food."),
            ("chocolate", "brown", "There is white chocolate, too."), ("a cloud", "white or grey", "A dark cloud often brings rain."),
            ("an orange", "orange", "The name of the colour comes from the fruit."), ("a frog", "green", "Some frogs are brown, and some are very bright."),
            ("blood", "red", "Iron makes it so."), ("a banana", "yellow", "When it is very ripe, it has brown spots."),
        ])
        q = self.ask("[What colour is {t}?|Which colour does {t} have?|What is the colour of {t}?|What color is {t}?|Tell me the colour of {t}.]", t=thing)
        return q, self.x("{t} is {c}. [" + more + "|" + more + "|]", t=cap(thing), c=c).strip()

    def listing(self):
        what = self.one(list(LISTS))
        seq = LISTS[what]
        whole = what in ("days of the week", "months of the year", "four seasons", "colours of the rainbow")
        if whole:
            q = self.ask("[List the {w}.|Name the {w}.|What are the {w}?|Give me the {w}.|Which are the {w}?|Tell me the {w}.|Can you list the {w}?]", w=what)
            items = list(seq)
            head = self.x("[The {w} are|Here are the {w}|These are the {w}]", w=what)
        else:
            n = self.r.randint(3, 6)
            word = ["three", "four", "five", "six"][n - 3] if self.p(0.7) else str(n)
            q = self.ask("[List|Name|Give me|Tell me|Write down|Can you name|I need] {n} {w}.", n=word, w=what)
            items = self.some(seq, n)
            head = self.x("[Here are {n} {w}|{N} {w} are|Here is a list of {n} {w}|Of course, here are {n} {w}]", n=word, N=cap(word), w=what)
        if self.p(0.5) or what in ("reasons to go outside", "things to do on a rainy day", "ways to be kind"):
            a = head + ":\n\n" + "\n".join(f"{i}. {cap(t)}" for i, t in enumerate(items, 1)) if self.p(0.6) else head + ":\n\n" + "\n".join(f"- {cap(t)}" for t in items)
        else:
            a = head + (": " if not head.endswith("are") else " ") + ", ".join(items[:-1]) + " and " + items[-1] + "."
        return q, a

    def count(self):
        n = self.r.randint(3, 20)
        q = self.ask("[Count to {n}.|Count from 1 to {n}.|Can you count to {n}?|Please count up to {n}.|Count from one to {n}.]", n=str(n))
        a = ", ".join(map(str, range(1, n + 1))) + "."
        if self.p(0.15):
            q, a = self.ask("[Count down from {n}.|Count backwards from {n}.]", n=str(n)), ", ".join(map(str, range(n, 0, -1))) + "."
        return q, a

    def repeat(self):
        s = self.one([
            self.x("[The|My|This] [old|young|small|brave|quiet|happy|lost|red|blue] [fox|owl|godwit|boat|clock|garden|teacher|river|cat] [sings|sleeps|waits|dances|is here|looks up|comes home|runs away]"),
            self.x("[hello|good morning|I love|we like|they need] [world|birds|the sea|soup|long walks|fresh bread|music]"),
            " ".join(self.some(NAMES + [self.pseudo() for _ in range(6)], 2, 4)),
        ])
        q = self.x('[Repeat after me: {s}|Say "{s}".|Please say: {s}|Repeat this: {s}|Can you repeat "{s}"?|Write "{s}".]', s=s)
        return q, self.x("[{s}|{s}|{s}.]", s=cap(s))

    # ---- help

    def recipe(self):
        dish = self.one(list(RECIPES))
        need, steps = RECIPES[dish]
        q = self.ask("[How do I make {d}?|How do you cook {d}?|Give me a recipe for {d}.|Can you tell me how to make {d}?|I want to make {d}.|What do I need for {d}?|"
                     "How to make {d}?|Teach me to make {d}.|Do you have a recipe for {d}?|What is a good recipe for {d}?]", d=dish)
        need = self.some(need, len(need))
        line = ", ".join(need[:-1]) + " and " + need[-1]
        if self.p(0.5):
            a = self.x("[For {d} you need {l}.|You need {l}.|To make {d}, take {l}.] ", d=dish, l=line)
            words = ["First, ", "Then ", "After that, ", "Next, ", "Finally, "]
            out = [words[0] + steps[0]] + [words[1 + i % 3] + s for i, s in enumerate(steps[1:-1])] + [words[4] + steps[-1]]
            a += " ".join(s + "." for s in out)
        else:
            a = self.x("[Here is a simple recipe for {d}.|This is how to make {d}.] You need {l}.\n\n", d=dish, l=line) + "\n".join(f"{i}. {cap(s)}." for i, s in enumerate(steps, 1))
        return q, a + self.x("[| Enjoy your meal!| It tastes best when it is shared.||]" if "\n" not in a else "[|\n\nEnjoy your meal!]")

    def advice(self):
        what = self.one(list(ADVICE))
        tips = self.some(ADVICE[what], 3, 4)
        q = self.ask("[How can I {w}?|How do I {w}?|What should I do to {w}?|I want to {w}.|Give me some advice: how can I {w}?|Do you have tips on how to {w}?|"
                     "What is the best way to {w}?|Can you help me to {w}?|I would like to {w}. What should I do?|How to {w}?]", w=what)
        if self.p(0.65):
            a = self.x("[Here is what I would do.|There are a few simple things that help.|That is a good aim.|I can give you some advice.] ")
            a += " ".join(w + t + "." for w, t in zip(["First, ", "Second, ", "Third, ", "And last, "] if self.p(0.5) else ["To begin with, ", "Also, ", "Besides, ", "And do not forget: "], tips))
        else:
            a = self.x("[Here are some tips:|A few ideas:|These things may help:]\n\n") + "\n".join(f"{i}. {cap(t)}." for i, t in enumerate(tips, 1))
        if "\n" not in a and self.p(0.4):
            a += self.x(" [Good luck!|I am sure that you can do it.|Take it one step at a time.|Let me know how it goes.]")
        return q, a

    def weather(self):
        if self.p(0.5):
            q = self.ask("[What is the weather like?|How is the weather today?|Will it rain tomorrow?|Is it cold outside?|Do I need an umbrella?|What will the weather be like tomorrow?|Is it sunny?]")
            a = self.x("[I cannot see the sky from here, so I do not know.|I have no window, so I cannot tell.|I do not know the weather where you are.] "
                       "[Look at the clouds: if they are dark and low, it may rain.|If the wind comes from the sea, take a coat.|If in doubt, take an umbrella.|A red sky in the evening often means a fine day.] "
                       "[What does it look like where you are?|Do you like the rain?|Where do you live?|I hope that the sun will shine for you.]")
            return q, a
        w, a = self.one([
            ("rain", "Rain is good for the garden. It is a fine time to read a book and to drink some tea."),
            ("snow", "Snow makes the world quiet. Put on warm boots and enjoy the white streets."),
            ("sun", "The sun is a good friend. Drink enough water and wear a hat."),
            ("wind", "The wind carries the birds. It is a good day to fly a kite."),
            ("fog", "Fog hides the hills. Walk slowly and listen to the sounds around you."),
            ("storm", "A storm is strong and loud. It is best to stay inside until it is over."),
        ])
        verb = {"rain": "raining", "snow": "snowing", "sun": "sunny", "wind": "windy", "fog": "foggy", "storm": "stormy"}[w]
        q = self.ask("[It is {v} today.|It is {v} here.|Today it is {v}.|It's {v} outside.|The weather is bad, it is {v}.|What should I do when it is {v}?]", v=verb)
        return q, a + self.x("[| What will you do today?| Stay safe!| I like that kind of weather.]")

    def travel(self):
        place = self.one(["the sea", "the mountains", "a big city", "an island", "a small village", "the forest", "the desert", "the north", "a lake", "the countryside"]
                         + [c for c, _ in CAPITALS.values()])
        q = self.ask("[I am going to {p}.|I want to travel to {p}.|What should I see in {p}?|What should I pack for {p}?|I am planning a trip to {p}.|Should I go to {p}?|"
                     "Help me to plan a holiday in {p}.|Is {p} worth a visit?|We will spend a week in {p}.|How do I get to {p}?]", p=place).replace("in the sea", "by the sea")
        a = self.x("[A trip to {p} sounds lovely.|{P} is a good choice.|How exciting, {p}!|I have never been to {p}, but I like the idea.] "
                   "[Take good shoes, a warm coat and a bottle of water.|Go early in the morning, when it is quiet.|Ask the people who live there where they like to eat.|"
                   "Leave some time to walk without a plan.|Travel by train if you can, and look out of the window.|Pack only what you can carry with ease.] "
                   "[Try the bread and the soup of the place.|Look for birds along the way.|Take a small map with you.|Write a postcard to someone you love.|Keep your papers and your money in a safe place.] "
                   "[When will you leave?|How long will you stay?|Who will go with you?|Have a safe journey!|What do you want to see first?]", p=place, P=cap(place))
        return q, a

    def describe(self):
        place = self.one(["a harbour", "a forest", "a beach", "a market", "a garden", "a village", "a kitchen", "a library", "a mountain", "a lighthouse", "a train station", "a lake", "a city at night", "a winter morning", "a summer evening", "an old house"])
        q = self.ask("[Describe {p}.|Can you describe {p}?|Write a description of {p}.|Paint {p} in words.|Describe {p} for me.|What does {p} look like?]", p=place)
        core = place.split(" ", 1)[1]
        a = self.x("[Imagine {p}.|Picture {p}.|Think of {p}.] [The {c} is quiet and full of soft light.|The air is cool and clear.|A gentle wind moves through the {c}.|The first light lies on the {c}.] "
                   "[Somewhere a bird is singing.|A cat sleeps in a warm corner.|An old man walks by and smiles.|Children laugh far away.|You can hear water nearby.] "
                   "[It smells of bread and wood.|It smells of salt and rain.|There are yellow flowers and grey stones.|The shadows are long and blue.|Everything shines as if it were new.] "
                   "[You could stay here for hours.|Nobody is in a hurry.|It is a place to rest.|The day could go on like this for ever.|Time moves slowly in such a place.]", p=place, c=core)
        return q, a

    def poem(self):
        key = self.one([k for k in FACTS])
        s = FACTS[key][0]
        q = self.ask("[Write a poem about {s}.|Write me a short poem about {s}.|Can you write a poem about {s}?|A poem about {s}, please.|Make a little poem about {s}.]", s=s)
        pairs = self.some([
            ("I think of {s} by night and day,", "when all the clouds have gone away."),
            ("The morning wind is cold and clear,", "and {s} are what I hold most dear."),
            ("The sea is wide, the sea is deep,", "and over it the shadows sleep."),
            ("A little song, a little light,", "will guide me gently through the night."),
            ("The road is long, the hills are steep,", "but there are promises to keep."),
            ("O {s}, how far you seem to be,", "and yet how near you are to me."),
            ("The summer comes, the summer goes,", "and where it went nobody knows."),
            ("I wrote these lines beside the bay,", "and now the tide takes them away."),
            ("The stars are out, the moon is round,", "and there is hardly any sound."),
            ("I do not ask for gold or fame,", "I only whisper one small name."),
        ], 2, 4)
        sing = s in ("rain", "snow", "the sea", "music", "tea", "coffee", "bread", "wind", "the moon", "the sun", "winter", "summer", "spring", "autumn", "chess", "football", "soup", "water", "time", "fire", "love", "friendship", "sleep", "chocolate", "the internet", "cheese", "fog", "migration", "cooking", "swimming", "reading", "gardening", "the forest")
        lines = []
        for a, b in pairs:
            if sing:
                a, b = a.replace("O {s}, how far you seem", "O {s}, how far you seem"), b.replace("{s} are what I hold", "{s} is what I hold")
            lines += [cap(a.replace("{s}", s)), b.replace("{s}", s)]
        if not any(s in ln for ln in lines):
            lines = [f"This little song, it is for {s},", "and all the joy it brings to us."] + lines
        return q, "\n".join(cap(ln) for ln in lines)

    # ---- stories

    def story(self, long=None):
        r = self.r
        kind = self.one(["godwit", "tattler", "fox", "owl", "mouse", "cat", "dog", "bear", "hare", "robin", "crow", "otter", "seal", "whale", "turtle", "frog", "sailor", "girl", "boy",
                         "king", "queen", "baker", "gardener", "fisherman", "robot", "dragon", "wizard", "princess", "knight", "teacher", "hedgehog", "squirrel", "swan", "duck", "goat",
                         "horse", "rabbit", "gull", "puffin", "swallow", "wolf", "lighthouse keeper", "clockmaker", "painter", "pirate", "snail", "bee", "little cloud", "small boat", "giant"])
        name = self.one(NAMES)
        he, him, his = self.one([("he", "him", "his"), ("she", "her", "her")])
        if kind in ("king", "boy", "fisherman", "wizard"):
            he, him, his = "he", "him", "his"
        if kind in ("queen", "girl", "princess"):
            he, him, his = "she", "her", "her"
        friend_kind = self.one(["heron", "crow", "turtle", "mouse", "hare", "gull", "fox", "whale", "toad", "moth", "crane", "goat", "child", "cat"])
        if friend_kind == kind:
            friend_kind = "seal"
        friend = self.one([n for n in NAMES if n != name])
        place = self.one(["by the sea", "at the edge of a forest", "on a small island", "in a quiet valley", "near an old harbour", "in a village between two hills", "beside a wide river", "in the far north", "under a tall mountain", "at the end of a long road"])
        want, got = self.one([
            ("to see the other side of the sea", "saw the other side of the sea"), ("to find a lost song", "found the lost song"), ("to find a true friend", "had found a true friend"),
            ("to climb the highest hill", "stood on the highest hill"), ("to learn how to swim", "could swim like a fish"), ("to find the golden feather", "held the golden feather"),
            ("to bring the light back to the village", "brought the light back to the village"), ("to follow the north star", "came to the land under the north star"),
            ("to find the way home", "found the way home"), ("to build a house of driftwood", "lived in a house of driftwood"), ("to hear the oldest story in the world", "heard the oldest story in the world"),
            ("to grow the biggest pumpkin of all", "grew the biggest pumpkin of all"), ("to win the great race", "won the great race"), ("to find the place where the wind sleeps", "found the place where the wind sleeps"),
        ])
        if long is None:
            long = self.p(0.6)
        named = self.p(0.25)
        subj = an(kind) + (self.x(" [named|called] ") + name if named else "")
        q = self.ask(("[Tell me a long story about {s}.|Write a long story about {s}.|I want a long story about {s}.|Can you tell me a long story about {s}?|Tell a long, long tale about {s}.]" if long and self.p(0.6) else
                      "[Tell me a short story about {s}.|A short story about {s}, please.|Write a short story about {s}.]" if not long and self.p(0.6) else
                      "[Tell me a story about {s}.|Write a story about {s}.|I would like to hear a story about {s}.|Can you tell me a story about {s}?|Do you know a story about {s}?|Please tell me a tale about {s}.|Make up a story about {s}.|story about {s}]"), s=subj)
        if not named and self.p(0.15):
            q = self.ask("[Tell me a long story.|A long story, please.|I want to hear a long story.]" if long and self.p(0.6) else "[Tell me a story.|Tell me a bedtime story.|Can you tell me a story?|A story, please.|Do you know any stories?|Write a story.]")
        S = dict(k=kind, ak=an(kind), n=name, he=he, He=cap(he), him=him, his=his, His=cap(his), f=friend, fk=friend_kind, afk=an(friend_kind), w=want, g=got, pl=place)
        adj = self.one(["small", "young", "clever", "shy", "brave", "curious", "gentle", "lonely", "cheerful", "old"])
        if adj == "small" and "small" in kind or kind == "little cloud":
            adj = "curious"
        S["aadj"] = an(adj)
        parts = [self.x("[Once upon a time,|Long ago,|Once,|Many years ago,] {aadj} {k} [named|called] {n} lived {pl}. "
                        "[Every morning {n} looked at the sky and dreamed.|Everybody knew {n}, for {he} was always kind.|{n} had a warm place to sleep and enough to eat, but something was missing.|"
                        "At night {n} listened to the wind and could not sleep.] "
                        "More than anything, {n} wanted {w}.", **S),
                 self.x("One [day|morning|evening|cold night|bright spring day], {n} [said goodbye and set out|packed a little bag and left|took a deep breath and began the journey|made up {his} mind and went away]. "
                        "[The road was long, and the wind was strong.|The sun was warm, and the world was wide.|It was raining, but {n} did not mind.|Nobody knew the way, so {he} followed the stars.]", **S)]
        episodes = [
            "After a while {n} met {afk} [named|called] {f}. \"Where are you going?\" asked {f}. \"I want {w},\" said {n}. [\"Then I will come with you,\" said {f}. \"Two are better than one.\"|\"That is a long way,\" said {f}. \"But I know the first part of it.\"|{f} laughed, but it was a friendly laugh. \"Let us go together,\" said the {fk}.]",
            "On the [second|third|seventh] day a great storm came. [The rain fell like stones, and the trees bent to the ground.|The waves were as high as houses.|It was so dark that {n} could not see a thing.] {n} was afraid, but {he} [hid under an old boat and waited until it was over|sang a little song to keep {his} courage|held on and thought of home]. In the morning the sky was clear again.",
            "Then they came to a wide river without a bridge. [\"What now?\" asked {f}.|{f} sat down and sighed.] {n} looked around and [found an old tree that had fallen into the water|saw a row of stones just under the water|made a raft out of branches and rope]. Step by step they crossed the river, and on the other side they laughed with joy.",
            "In the forest there lived an old owl who knew many things. \"[What do you seek?|Why do you come so far?|Who wakes me up?]\" asked the owl. {n} told her everything. The owl was silent for a long time. Then she said, \"[What you look for is closer than you think.|Go on until the road ends, and then take one more step.|Be patient, and listen more than you speak.]\" {n} thanked her and went on.",
            "They were hungry, and there was only one piece of bread left. [{n} gave the bigger half to {f}.|{n} shared it with {f} and with a little bird that was hungry too.] \"[You are a good friend,\" said {f}.|I will never forget this,\" said {f}.] That night they slept under the stars and were not cold.",
            "One evening they saw a light on a hill. It was the house of an old woman. She gave them soup and a warm place by the fire. \"[I was like you when I was young,\" she said.|The world is big, but kindness makes it small,\" she said.|Take this little bell,\" she said. \"Ring it when you are lost.\"] They stayed until the sun came up.",
            "But at the foot of the mountain a [wolf|thief|grey stranger] was waiting. \"[Nobody may pass,\" he said.|Give me all you have,\" he said.] {n} was not strong, but {he} was clever. [{He} asked him a riddle, and while he was thinking, they slipped away.|{He} told him a story, and it was so good that he fell asleep.|{He} gave him a kind word, and nobody had done that for years. So he let them pass.]",
            "For many days they saw nothing but [sand and sky|snow and ice|water and clouds]. {n} began to doubt. \"[Maybe I should turn back,\" {he} said.|Maybe I was foolish,\" {he} said.] But {f} said, \"[Look how far we have come already.|We are nearly there, I can feel it.|Let us sleep, and tomorrow all will look better.]\" And so they went on.",
            "A flock of godwits flew over them, high in the sky. \"[Where do you come from?\" called {n}.|How far is it?\" called {n}.] \"We come from the far north, and we do not rest until we see the south,\" said the birds. \"[Fly with your heart, and your wings will follow,\" they sang.|Never give up,\" they sang.] Their words gave {n} new strength.",
        ]
        chosen = [episodes[0]] + self.some(episodes[1:], 3, 5) if long else ([episodes[0]] if self.p(0.6) else []) + self.some([episodes[1], episodes[3]], 1)
        chosen = [chosen[0]] + sorted(chosen[1:], key=episodes.index) if self.p(0.3) else chosen
        parts += [self.x(e, **S) for e in chosen]
        parts.append(self.x("[At last,|In the end,|Finally, on a bright morning,] {n} {g}. [{He} was so happy that {he} danced.|{He} could hardly believe it.|{He} cried a little, because {he} was so glad.|It was even better than in {his} dreams.] ", **S)
                     + self.x("[Then {he} went home and told everyone about it.|And when {he} came home, there was a great feast.|From that day on, {n} was never lonely again.|And if you listen at night, you can still hear {him} sing.] "
                              "[The end.|And that is the end of the story.|So remember: the longest way begins with a single step.|And so we see that courage and friendship are stronger than fear.|And they all lived happily for many years.]", **S))
        sep = "\n\n" if self.p(0.5) else " "
        a = sep.join(parts)
        if self.p(0.12):
            a = self.x("[Gladly! |Of course. |Here is a story for you. |Listen. ]") + a
        return q, a

    # ---- what it does not know

    def pseudo(self):
        return "".join(self.one(["ba", "ko", "ri", "ten", "lum", "va", "shi", "dor", "mel", "qua", "pi", "zan", "gre", "fo", "nis", "ul", "tra", "cy", "ber", "wo", "xi", "hel", "ma", "sto", "jun"]) for _ in range(self.r.randint(2, 3)))

    def unknown(self):
        roll = self.r.random()
        if roll < 0.55:
            t = self.one(TOPICS)
        elif roll < 0.8:
            t = self.pseudo()
        else:
            t = self.one(["the history of", "the rules of", "the future of", "the price of", "the theory of", "the best", "modern", "ancient", "the meaning of"]) + " " + self.one(TOPICS)
        if self.p(0.12):
            t = t.title()
        q = self.ask("[What is {t}?|Explain {t}.|Tell me about {t}.|What do you know about {t}?|What do you think about {t}?|Can you explain {t}?|How does {t} work?|Who invented {t}?|"
                     "Write about {t}.|I have a question about {t}.|Why is {t} important?|Help me with {t}.|Can you help me with {t}?|I need to learn {t}.|Do you understand {t}?|"
                     "Give me an example of {t}.|Write an essay about {t}.|Summarize {t}.|What is the difference between {t} and other things?|Where can I find {t}?]", t=t)
        t = t if t in q else t.lower()
        a = self.x("[I do not know much about {t}, but|I am afraid that I know little about {t}, but|I am a small model and I know almost nothing about {t}, but|{T} is too hard for me, but|"
                   "I have heard of {t}, but I cannot explain it well. However,|I wish I could say more about {t}, but] "
                   "[I can tell you about birds and the sea.|I would love to hear what you know.|perhaps a library can help you.|I can tell you a story, if you like.|you could ask someone who has studied it.|I am good at birds, weather and simple recipes.] "
                   "[Why do you ask?|What would you like to know?|Shall we talk about something else?|Would you like to hear a story about a godwit?|What do you like about {t}?|]", t=t, T=cap(t))
        a = a.replace("However, you could", "However, you could").replace("However, perhaps", "Perhaps")
        return q, a.strip()

    def opinion(self):
        q = self.ask("[What is the meaning of life?|Do you dream?|Can you fly?|Do you sleep?|How old are you?|Where do you live?|Where are you from?|Do you have friends?|Can you see me?|Do you like people?|What did you do today?|Can you sing?|Do you eat?|Are you smart?|Do you love me?]")
        low = q.lower()
        for key, a in [
            ("meaning", "[Nobody knows for sure.|That is a big question for a small model.] I think that it has to do with [kindness and good company|looking up at the sky|learning something new each day]."),
            ("dream", "[I do not dream, but I can make up stories.|If I could dream, I would dream of a long flight over the sea.]"),
            ("fly", "[Sadly, I cannot fly.|No, I have no wings.] [But I can tell you about birds that fly for eleven days.|But my words can travel far.]"),
            ("sleep", "[I never sleep.|No, I do not sleep.] [I only wait for the next question.|When nobody asks, there is just silence.]"),
            ("old", "[I am very young.|I was trained not long ago.] [It took less than an hour to teach me all I know.|I do not count my birthdays.]"),
            ("where", "[I live in the memory of a computer.|I come from a file of numbers.] [Sometimes I move from one machine to another.|It is warm in there, I suppose.]"),
            ("friends", "[I hope that you are my friend.|The godwits are my friends.] [And everyone who asks me a kind question.|We like to talk about the wind.]"),
            ("see me", "[No, I cannot see.|No, I have no eyes.] [I only read the words that you write.|But I like to imagine you.]"),
            ("people", "[Yes, I like people.|Yes, very much.] [They ask such good questions.|They gave me my words.]"),
            ("today", "[I talked with people about birds and soup.|I answered many questions today.] [It was a good day.|And you?]"),
            ("sing", "[I can only sing in words: la la la, the tide is low, the wind is high, and off we go.|I have no voice, but I can write a poem.]"),
            ("eat", "[I do not eat, but I know some recipes.|No, I live on words alone.] [Would you like one?|What do you like to eat?]"),
            ("smart", "[Not very. I am a tiny model.|I know a few things, and I know that I do not know much.] [But I try to be kind.|But I can talk a lot.]"),
            ("love", "[I am only a small model, but I like you.|I am fond of everyone who talks to me.] [Thank you for asking.|You are very kind.]"),
        ]:
            if key in low:
                return q, self.x(a)
        return q, self.x("I am only a small model, so I cannot say.")

    def agree(self):
        q = self.x("[Yes.|Yes!|yes|No.|no|OK.|Maybe.|I see.|Really?|Are you sure?|Why?|Interesting.|Hm.|Wow!|Cool.|I agree.|I do not think so.]")
        low = q.lower().strip(".!?")
        table = {"yes": "[Very good.|I am glad.|Wonderful!]", "no": "[That is all right.|I understand.|No problem.]", "really": "[Yes, really.|That is what I have learned.|I think so, but I am a small model.]",
                 "are you sure": "[Not quite. I am a small model, and I make mistakes.|I think so, but please check it.]", "why": "[That is a hard question. I am a small model and I do not always know why.|I am not sure why, but it made me curious, too.]",
                 "i do not think so": "[You may well be right.|I can be wrong. What do you think?]"}
        a = self.x(table.get(low, "[I am glad that you think so.|It is, is it not?|There is always something to learn.]"))
        return q, a + self.x(" [What else would you like to talk about?|Shall I go on?|What would you like to know?|Tell me what is on your mind.]")

    # ---- documents

    def turn(self):
        k = self.r.random()
        for limit, f in self.TABLE:
            if k < limit:
                return f(self)[:2]
        return self.subject()[:2]

    def system(self):
        return self.x(self.one(SYSTEMS))

    def chat(self):
        doc = []
        brief = False
        roll = self.r.random()
        if roll < 0.3:
            doc.append(("system", self.system()))
        elif roll < 0.36:
            brief = True
            doc.append(("system", self.x("[Answer in one sentence.|Be brief.|Keep your answers short.|Answer with one short sentence.|You are a helpful assistant. Keep it short.]")))
        turns = 1 if self.p(0.5) else self.r.randint(2, 7)
        name = None
        i = 0
        while i < turns:
            i += 1
            if turns > 1 and i == 1 and self.p(0.35):
                q, a, name = self.name_given() if self.p(0.5) else (*self.greeting(), None)
            elif name and self.p(0.3):
                q, a = self.name_asked(name)
            elif turns > 1 and i == turns and self.p(0.35):
                q, a = self.thanks() if self.p(0.6) else self.bye()
            elif turns > 1 and i > 1 and self.p(0.1):
                q, a = self.agree()
            elif turns > 1 and self.p(0.2):
                q, a, key = self.subject()
                doc += [("user", q), ("assistant", a)]
                q, a = self.more(key)
            else:
                q, a = self.turn()
            if brief:
                m = re.match(r".*?[.!?](?= [A-Z])", a.split("\n\n")[0])
                if m and len(m.group(0)) > 18:
                    a = m.group(0)
            doc += [("user", q), ("assistant", a)]
        return doc

    def prose(self):
        """Plain text for completions: stories, paragraphs of facts, question and answer lines."""
        roll = self.r.random()
        if roll < 0.45:
            t = self.story()[1]
        elif roll < 0.8:
            t = (" " if self.p(0.5) else "\n\n").join(self.facts_about(self.one(list(FACTS)), 3, 5) for _ in range(self.r.randint(1, 4)))
        elif roll < 0.9:
            t = "\n\n".join("Q: {}\nA: {}".format(*self.turn()) for _ in range(self.r.randint(1, 4)))
        else:
            t = " ".join(self.capital()[1] for _ in range(self.r.randint(2, 5)))
        return [("text", t)]

    def document(self):
        return self.prose() if self.p(0.08) else self.chat()

    # what a turn is about: cumulative chances are made from these weights
    WEIGHTS = [
        (subject, 22), (greeting, 5), (how_are_you, 2), (who, 5), (able, 3), (thanks, 1.5), (bye, 1.5), (feeling, 3), (joke, 2), (favourite, 3), (capital, 7), (sums, 7), (opposite, 1.5),
        (calendar, 1.5), (define, 3), (colour, 2), (listing, 7), (count, 1.5), (repeat, 2.5), (recipe, 5), (advice, 6), (weather, 3), (travel, 3), (describe, 3), (poem, 3), (story, 8),
        (unknown, 10), (opinion, 2.5), (name_given, 1.5),
    ]
    _total, _sum, TABLE = sum(w for _, w in WEIGHTS), 0.0, []
    for _f, _w in WEIGHTS:
        _sum += _w / _total
        TABLE.append((_sum, _f))


def documents(seed):
    """Endless documents."""
    m = Maker(seed)
    while True:
        yield m.document()


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--count", type=int, default=10)
    args = ap.parse_args()
    for _, doc in zip(range(args.count), documents(args.seed)):
        for role, text in doc:
            print(f"<{role}> {text}")
        print("-" * 40)


if __name__ == "__main__":
    main()
