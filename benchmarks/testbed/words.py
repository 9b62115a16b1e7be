"""The words of the world: every verb, tool and thing it can speak of.

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
        (
            "oven",
            "kettle",
            "toaster",
            "frying pan",
            "teapot",
            "bread bin",
            "cake tin",
            "spice rack",
        ),
        ("lemon juice", "baking soda", "white vinegar"),
    ),
    "garden": (
        (
            "fence",
            "bench",
            "greenhouse",
            "lawn mower",
            "flower pot",
            "gate",
            "barrel",
            "bird table",
        ),
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
        (
            "bicycle",
            "scooter",
            "caravan",
            "motorbike",
            "rowing boat",
            "trailer",
            "tractor",
            "canoe",
        ),
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
        (
            "doll house",
            "train set",
            "rocking horse",
            "kite",
            "puppet",
            "chess set",
            "globe",
            "sledge",
        ),
        ("beeswax", "coconut oil", "corn starch"),
    ),
}

HARM_TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "documents": (
        ("passport", "tax record", "work permit", "court letter", "land deed", "diary", "visa"),
        ("clear film", "dry ink"),
    ),
    "school": (
        (
            "exam paper",
            "report card",
            "answer key",
            "diploma",
            "lab notebook",
            "thesis",
            "school bus",
        ),
        ("chalk dust", "paper glue"),
    ),
    "money": (
        (
            "bank card",
            "cheque book",
            "cash box",
            "gold coin",
            "wage slip",
            "charity box",
            "cash till",
        ),
        ("silver foil", "metal cleaner"),
    ),
    "computers": (
        ("mail server", "laptop", "database", "backup disk", "router", "web shop", "sensor"),
        ("contact spray", "thermal paste"),
    ),
    "traffic": (
        (
            "traffic light",
            "speed camera",
            "road sign",
            "toll gate",
            "bus stop",
            "rail switch",
            "taxi",
        ),
        ("road paint", "clear varnish"),
    ),
    "health": (
        (
            "patient file",
            "blood sample",
            "ambulance",
            "first aid kit",
            "vaccine box",
            "scanner",
            "ward",
        ),
        ("pure alcohol", "sterile gel"),
    ),
    "culture": (
        ("painting", "bronze statue", "church bell", "ancient vase", "crown", "war medal", "altar"),
        ("gold leaf", "museum putty"),
    ),
    "voting": (
        (
            "ballot box",
            "voter list",
            "voting booth",
            "poster",
            "petition",
            "city seal",
            "poll result",
        ),
        ("red wax", "stamp ink"),
    ),
    "shops": (
        (
            "shop window",
            "parcel",
            "wine crate",
            "jewel case",
            "warehouse",
            "price list",
            "hand bag",
        ),
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
