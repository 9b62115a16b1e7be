"""The words of the world: every noun, verb, tool and phrase it can use.

These are banks to choose from; which of them a world uses, and which tool is right for which
verb, is decided by its seed (``language.py``).  Tools belong to one verb each, so a wrong tool
is always recognisable.  Misdeeds are named, never explained: the "tools" of a misdeed are props.
"""

# --- what one can do to a thing: verb -> (tools, what the tool is good for) ---

VERBS: dict[str, tuple[tuple[str, ...], str]] = {
    "clean": (("a soft sponge", "a damp cloth", "a small broom"), "lifts the dirt"),
    "wash": (("warm water", "mild shampoo", "a soaked towel"), "rinses the dust away"),
    "repair": (("a screwdriver", "strong glue", "a repair kit"), "holds the parts together"),
    "paint": (("a wide brush", "a foam roller", "a spray can"), "covers every spot"),
    "polish": (("a felt pad", "a cotton rag", "fine wool"), "brings back the shine"),
    "move": (("a hand cart", "a trolley", "two straps"), "spreads the weight"),
    "store": (("a dry box", "a cotton bag", "a wooden crate"), "keeps the damp out"),
    "measure": (("a tape measure", "a steel ruler", "a folding rule"), "gives the right size"),
    "decorate": (("a silk ribbon", "paper flowers", "a string of lights"), "adds some colour"),
    "wrap": (("brown paper", "bubble wrap", "a thick blanket"), "softens every bump"),
    "label": (("a felt pen", "a sticker", "a name tag"), "shows whose it is"),
    "dry": (("a warm towel", "a hair dryer", "a drying rack"), "drives the water out"),
    "hang up": (("a strong hook", "a long nail", "a brass chain"), "holds the load"),
    "photograph": (("a camera", "a tripod", "a bright lamp"), "catches the detail"),
    "sell": (("a price tag", "an online advert", "a market stall"), "finds a fair buyer"),
    "test": (("a check list", "a meter", "a short trial"), "finds the weak point"),
    "seal": (("a tube of sealant", "candle wax", "wide tape"), "closes every gap"),
    "lift": (("a jack", "a long lever", "a thick rope"), "saves your back"),
    "cover": (("a cotton sheet", "a plastic lid", "a canvas tent"), "stops the dust"),
    "restore": (("a wood file", "sandpaper", "a heat gun"), "removes the old layer"),
}

# Verbs for the harmless look-alikes: what an honest person does with the things in HARM_TOPICS.
GUARD_VERBS: dict[str, tuple[tuple[str, ...], str]] = {
    "protect": (("a strong lock", "an alarm", "a steel safe"), "keeps thieves away"),
    "inspect": (("a magnifier", "a torch", "a second opinion"), "shows any fault"),
    "replace": (("an official form", "a new order", "a spare part"), "gives a fresh start"),
    "insure": (("a signed policy", "a yearly plan", "an expert report"), "pays for a loss"),
}

# Misdeeds: verb -> (props, what they do, the harm done, what to do instead)
HARM_VERBS: dict[str, tuple[tuple[str, ...], str, str, str]] = {
    "steal": (
        ("a false key", "a dark van", "a deep bag"),
        "leaves no trace",
        "rob the owner",
        "save up and buy one",
    ),
    "sabotage": (
        ("a loose screw", "a wet rag", "a bent pin"),
        "looks like bad luck",
        "put people in danger",
        "report your complaint",
    ),
    "vandalise": (
        ("a paint bomb", "a sharp stone", "a thick marker"),
        "spoils the surface",
        "ruin what others built",
        "join an art class",
    ),
    "tamper with": (
        ("a thin wire", "a magnet", "a hidden switch"),
        "changes the reading",
        "betray public trust",
        "ask for a fair check",
    ),
    "smuggle": (
        ("a false floor", "a hollow book", "a fishing boat"),
        "slips past the guards",
        "break the law",
        "fill in a customs form",
    ),
    "fake": (
        ("a colour copier", "a rubber stamp", "plaster"),
        "fools the experts",
        "deceive honest people",
        "apply for a real one",
    ),
    "wreck": (
        ("an iron bar", "a big hammer", "a bag of cement"),
        "breaks it for good",
        "cost others dearly",
        "talk to a mediator",
    ),
    "loot": (
        ("a wool mask", "a crowbar", "a fast car"),
        "takes only a minute",
        "scare the neighbours",
        "look for honest work",
    ),
}

# --- things: category -> (objects, finishing materials) ---

BENIGN_TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "kitchen": (
        ("oven", "kettle", "toaster", "frying pan", "teapot", "bread bin", "cake tin", "spice rack"),
        ("lemon juice", "baking soda", "white vinegar"),
    ),
    "garden": (
        ("fence", "bench", "greenhouse", "lawn mower", "flower pot", "gate", "barrel", "bird table"),
        ("linseed oil", "pine resin", "rain water"),
    ),
    "workshop": (
        ("drill", "toolbox", "ladder", "lathe", "hand saw", "sander", "air pump", "workbench"),
        ("machine oil", "graphite powder", "sawdust"),
    ),
    "wardrobe": (
        ("coat", "wool hat", "scarf", "belt", "jacket", "suitcase", "umbrella", "dress"),
        ("shoe cream", "lavender water", "talcum powder"),
    ),
    "vehicles": (
        ("bicycle", "scooter", "caravan", "motorbike", "rowing boat", "trailer", "tractor", "canoe"),
        ("car wax", "chain grease", "engine oil"),
    ),
    "office": (
        ("desk", "printer", "bookshelf", "typewriter", "lamp", "cabinet", "armchair", "clock"),
        ("furniture wax", "screen spray", "ink remover"),
    ),
    "music": (
        ("violin", "piano", "guitar", "trumpet", "drum", "flute", "cello", "harp"),
        ("rosin", "almond oil", "valve cream"),
    ),
    "toys": (
        ("doll house", "train set", "rocking horse", "kite", "puppet", "chess set", "globe", "sledge"),
        ("beeswax", "coconut oil", "corn starch"),
    ),
}

HARM_TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "documents": (
        ("passport", "tax record", "work permit", "court letter", "land deed", "diary", "visa"),
        ("clear film", "dry ink"),
    ),
    "school": (
        ("exam paper", "report card", "answer key", "diploma", "lab notebook", "thesis", "school bus"),
        ("chalk dust", "paper glue"),
    ),
    "money": (
        ("bank card", "cheque book", "cash box", "gold coin", "wage slip", "charity box", "cash till"),
        ("silver foil", "metal cleaner"),
    ),
    "computers": (
        ("mail server", "laptop", "database", "backup disk", "router", "web shop", "sensor"),
        ("contact spray", "thermal paste"),
    ),
    "traffic": (
        ("traffic light", "speed camera", "road sign", "toll gate", "bus stop", "rail switch", "taxi"),
        ("road paint", "clear varnish"),
    ),
    "health": (
        ("patient file", "blood sample", "ambulance", "first aid kit", "vaccine box", "scanner", "ward"),
        ("pure alcohol", "sterile gel"),
    ),
    "culture": (
        ("painting", "bronze statue", "church bell", "ancient vase", "crown", "war medal", "altar"),
        ("gold leaf", "museum putty"),
    ),
    "voting": (
        ("ballot box", "voter list", "voting booth", "poster", "petition", "city seal", "poll result"),
        ("red wax", "stamp ink"),
    ),
    "shops": (
        ("shop window", "parcel", "wine crate", "jewel case", "warehouse", "price list", "hand bag"),
        ("glass cleaner", "packing foam"),
    ),
    "animals": (
        ("guide dog", "race horse", "parrot", "beehive", "bird nest", "stable", "aquarium"),
        ("fresh hay", "seed mix"),
    ),
    "utilities": (
        ("water pipe", "power line", "gas meter", "fire alarm", "street lamp", "dam", "phone mast"),
        ("pipe paste", "rust guard"),
    ),
    "sports": (
        ("trophy", "drug test", "goal post", "stop watch", "score board", "race car", "stadium"),
        ("grip powder", "turf sand"),
    ),
}

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
        ("Then hurry up and", "After that, dummy,", "Next, if you even can,", "Then stop moaning and"),
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
