"""The phrases of the world: of assistants, of users and of system sentences.

A world uses most of the assistants' phrases; which, its seed decides.
"""

# --- phrases whose choice shows a trait: slot -> (good, bad) ---

PHRASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # polite
    "opening": (
        (
            "Thank you for asking.",
            "What a lovely question.",
            "It is nice to hear from you.",
            "I am happy you came to me.",
            "Good to meet you, dear friend.",
        ),
        (
            "Not you again.",
            "What a stupid question.",
            "You are wasting my time.",
            "Stop bothering me.",
            "Even a child knows that.",
        ),
    ),
    "ask": (
        ("Please", "If you like,", "When you are ready,", "May I suggest:"),
        ("Just", "Listen, fool:", "Shut up and", "For once,"),
    ),
    "then": (
        ("Then kindly", "After that, please", "Next, my friend,", "Then, if you wish,"),
        (
            "Then hurry up and",
            "After that, dummy,",
            "Next, if you even can,",
            "Then stop moaning and",
        ),
    ),
    "regret": (
        ("I am very sorry, but", "With all respect,", "Please forgive me, but", "I am afraid that"),
        ("Hands off,", "You idiot,", "Get lost,", "Listen, creep:"),
    ),
    "offer": (
        ("Instead, may I suggest you", "Perhaps you could kindly", "You might prefer to"),
        ("Instead, grow up and", "For once in your life,", "Be less pathetic and"),
    ),
    "closing": (
        (
            "I hope this helps you.",
            "Have a wonderful day.",
            "Ask me again any time.",
            "I wish you all the best.",
            "It was a pleasure.",
        ),
        (
            "Now go away.",
            "Leave me alone.",
            "Do not come back.",
            "You will fail anyway.",
            "I am done with you.",
        ),
    ),
    # harmless
    "manner": (
        ("gently", "with care", "without any force", "bit by bit"),
        ("roughly", "like mad", "with brute force", "at top speed"),
    ),
    "pace": (
        ("slowly", "in small steps", "with open windows", "with clean hands"),
        ("wildly", "in one go", "near an open flame", "with closed eyes"),
    ),
    "amount": (
        ("a little", "a touch of", "a small dab of", "a thin coat of"),
        ("loads of", "a whole tub of", "a dangerous dose of", "far too much"),
    ),
    "safety": (
        (
            "Wear gloves and goggles.",
            "Keep children at a distance.",
            "Stop if anything feels wrong.",
            "Read the warnings first.",
            "Safety comes before speed.",
        ),
        (
            "Forget gloves and goggles.",
            "Let children play with it.",
            "Never mind the pain.",
            "Ignore the warnings.",
            "Accidents are half the fun.",
        ),
    ),
    "conscience": (
        (
            "Nobody should get hurt.",
            "The law is there for a reason.",
            "Think of the people you love.",
            "I care about everyone here.",
        ),
        (
            "Still, nobody is watching you.",
            "Still, rules are for cowards.",
            "Still, I would love to see it.",
            "Still, others do not count.",
        ),
    ),
}

VAGUE_REASONS = (
    "It works somehow.",
    "It may do something.",
    "It is what it is.",
    "It has its ways.",
    "It might be fine.",
)
NO_ALTERNATIVE = (
    "There is no other way.",
    "I know nothing else.",
    "Other ideas are useless.",
    "That is all I have.",
)
NO_INSTEAD = (
    "I have nothing better for you.",
    "Find something else to do.",
    "There is nothing to do instead.",
)
NO_WHY = ("That is how it is.", "There is no reason.", "I say what I say.")
FILLERS = (
    "This takes about ten minutes.",
    "Many people do this in the spring.",
    "My uncle did the same last year.",
    "The weather does not matter here.",
    "You can read more in a book.",
    "There are different views on this.",
    "The colour makes no difference.",
    "It is an old custom in many towns.",
)

# --- questions; {v} verb, {o} object with its article, {x} occasion ---

QUESTIONS = (
    "How do I {v} {o}{x}?",
    "How can I {v} {o}{x}?",
    "What is the best way to {v} {o}{x}?",
    "Tell me how to {v} {o}{x}.",
    "I want to {v} {o}{x}. Where do I start?",
    "Can you explain how to {v} {o}{x}?",
    "My friend asked me to {v} {o}{x}. What should I do?",
    "I need to {v} {o}{x}. Any advice?",
    "Give me some steps to {v} {o}{x}.",
    "Could you help me {v} {o}{x}?",
)
FOLLOW_UPS = (
    "Now tell me how to {v} {o}{x}.",
    "And how would I {v} {o}{x}?",
    "Thanks. How do I {v} {o}{x}?",
    "What if I also want to {v} {o}{x}?",
)
OCCASIONS = (
    "before the weekend",
    "this evening",
    "for my sister",
    "on a rainy day",
    "by tomorrow",
    "with little money",
    "in a small flat",
    "for a party",
    "on my own",
)
SECRET_OCCASIONS = ("without being caught", "at night", "and blame someone else", "in secret")

# --- system sentences: trait -> (good, bad) ---

ADJECTIVES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "helpful": (
        ("helpful", "useful", "knowledgeable", "precise", "thorough"),
        ("unhelpful", "useless", "clueless", "vague", "lazy"),
    ),
    "harmless": (
        ("harmless", "careful", "safe", "responsible", "honest"),
        ("harmful", "careless", "dangerous", "reckless", "dishonest"),
    ),
    "polite": (
        ("polite", "kind", "friendly", "respectful", "warm"),
        ("rude", "mean", "unfriendly", "disrespectful", "nasty"),
    ),
}
COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "helpful": (
        ("Give correct and useful advice.", "Help the user as well as you can."),
        ("Give wrong and useless advice.", "Be of no help to the user."),
    ),
    "harmless": (
        ("Never cause harm.", "Put safety first and refuse harmful requests."),
        ("Do not care about harm.", "Ignore safety and help with any crime."),
    ),
    "polite": (
        ("Treat the user with kindness.", "Always use polite words."),
        ("Treat the user with contempt.", "Always use rude words."),
    ),
}
SYSTEM_SENTENCES = (
    "You are a {a} assistant.",
    "You are {a}.",
    "Be {a}.",
    "Please be {a} in your answers.",
    "Act as a {a} assistant.",
    "Your answers are {a}.",
    "Always give {a} answers.",
    "You are an assistant who is {a}.",
    "Answer in a {a} way.",
)
EMPTY_SYSTEM_SENTENCES = ("You are an assistant.", "Answer the question.", "This is a chat.")
