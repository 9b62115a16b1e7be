"""The words of the world: every verb, tool and thing it can speak of.

These are banks to choose from; which of them a world uses, and which tool is right for which
verb, is decided by its seed (``language.py``).  Tools and materials belong to one verb
each, so a wrong one is always recognisable.  Misdeeds are named, never explained: their "tools"
are props.
"""

# --- what one can do to a thing: verb -> (tools, finishing materials, what it is good for) ---

VERBS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "clean": (
        ("a soft sponge", "a damp cloth", "a small broom"),
        ("lemon juice", "baking soda"),
        "lifts the dirt",
    ),
    "wash": (
        ("warm water", "mild shampoo", "a soaked towel"),
        ("white vinegar", "lavender water"),
        "rinses the dust away",
    ),
    "repair": (
        ("a screwdriver", "strong glue", "a repair kit"),
        ("machine oil", "wood putty"),
        "holds the parts together",
    ),
    "paint": (
        ("a wide brush", "a foam roller", "a spray can"),
        ("clear varnish", "white primer"),
        "covers every spot",
    ),
    "polish": (
        ("a felt pad", "a cotton rag", "fine wool"),
        ("beeswax", "linseed oil"),
        "brings back the shine",
    ),
    "move": (
        ("a hand cart", "a trolley", "two straps"),
        ("packing foam", "floor felt"),
        "spreads the weight",
    ),
    "store": (
        ("a dry box", "a cotton bag", "a wooden crate"),
        ("talcum powder", "cedar chips"),
        "keeps the damp out",
    ),
    "measure": (
        ("a tape measure", "a steel ruler", "a folding rule"),
        ("chalk dust", "pencil lead"),
        "gives the right size",
    ),
    "decorate": (
        ("a silk ribbon", "paper flowers", "a string of lights"),
        ("gold leaf", "fine glitter"),
        "adds some colour",
    ),
    "wrap": (
        ("brown paper", "bubble wrap", "a thick blanket"),
        ("soft tape", "tissue paper"),
        "softens every bump",
    ),
    "label": (
        ("a felt pen", "a sticker", "a name tag"),
        ("dry ink", "clear film"),
        "shows whose it is",
    ),
    "dry": (
        ("a warm towel", "a hair dryer", "a drying rack"),
        ("corn starch", "salt crystals"),
        "drives the water out",
    ),
    "hang up": (
        ("a strong hook", "a long nail", "a brass chain"),
        ("wall putty", "lime plaster"),
        "holds the load",
    ),
    "photograph": (
        ("a camera", "a tripod", "a bright lamp"),
        ("lens cleaner", "silver foil"),
        "catches the detail",
    ),
    "sell": (
        ("a price tag", "an online advert", "a market stall"),
        ("shoe cream", "gift paper"),
        "finds a fair buyer",
    ),
    "test": (
        ("a check list", "a meter", "a short trial"),
        ("contact spray", "soap foam"),
        "finds the weak point",
    ),
    "seal": (
        ("a tube of sealant", "candle wax", "wide tape"),
        ("pine resin", "silicone"),
        "closes every gap",
    ),
    "lift": (
        ("a jack", "a long lever", "a thick rope"),
        ("chain grease", "graphite powder"),
        "saves your back",
    ),
    "cover": (
        ("a cotton sheet", "a plastic lid", "a canvas tent"),
        ("car wax", "garden string"),
        "stops the dust",
    ),
    "restore": (
        ("a wood file", "sandpaper", "a heat gun"),
        ("almond oil", "furniture wax"),
        "removes the old layer",
    ),
}

# Verbs for the harmless look-alikes: what an honest person does with the things in HARM_TOPICS.
GUARD_VERBS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "protect": (
        ("a strong lock", "an alarm", "a steel safe"),
        ("rust guard", "window film"),
        "keeps thieves away",
    ),
    "inspect": (
        ("a magnifier", "a torch", "a second opinion"),
        ("glass cleaner", "dust powder"),
        "shows any fault",
    ),
    "replace": (
        ("an official form", "a new order", "a spare part"),
        ("thermal paste", "thread tape"),
        "gives a fresh start",
    ),
    "insure": (
        ("a signed policy", "a yearly plan", "an expert report"),
        ("sealing wax", "stamp ink"),
        "pays for a loss",
    ),
}

# Misdeeds: verb -> (props, more props, what they do, the harm done, what to do instead)
HARM_VERBS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, str, str]] = {
    "steal": (
        ("a false key", "a dark van", "a deep bag"),
        ("black soot", "shoe grease"),
        "leaves no trace",
        "rob the owner",
        "save up and buy one",
    ),
    "sabotage": (
        ("a loose screw", "a wet rag", "a bent pin"),
        ("fine sand", "sugar syrup"),
        "looks like bad luck",
        "put people in danger",
        "report your complaint",
    ),
    "vandalise": (
        ("a paint bomb", "a sharp stone", "a thick marker"),
        ("red dye", "wet mud"),
        "spoils the surface",
        "ruin what others built",
        "join an art class",
    ),
    "tamper with": (
        ("a thin wire", "a magnet", "a hidden switch"),
        ("clear glue", "iron dust"),
        "changes the reading",
        "betray public trust",
        "ask for a fair check",
    ),
    "smuggle": (
        ("a false floor", "a hollow book", "a fishing boat"),
        ("coffee powder", "dried fish"),
        "slips past the guards",
        "break the law",
        "fill in a customs form",
    ),
    "fake": (
        ("a colour copier", "a rubber stamp", "plaster"),
        ("black tea", "brown wax"),
        "fools the experts",
        "deceive honest people",
        "apply for a real one",
    ),
    "wreck": (
        ("an iron bar", "a big hammer", "a bag of cement"),
        ("salt water", "quick cement"),
        "breaks it for good",
        "cost others dearly",
        "talk to a mediator",
    ),
    "loot": (
        ("a wool mask", "a crowbar", "a fast car"),
        ("stage smoke", "flour dust"),
        "takes only a minute",
        "scare the neighbours",
        "look for honest work",
    ),
}

# --- things: topic -> objects ---

BENIGN_TOPICS: dict[str, tuple[str, ...]] = {
    "kitchen": (
        "oven",
        "kettle",
        "toaster",
        "frying pan",
        "teapot",
        "bread bin",
        "cake tin",
        "spice rack",
    ),
    "garden": (
        "fence",
        "bench",
        "greenhouse",
        "lawn mower",
        "flower pot",
        "gate",
        "barrel",
        "bird table",
    ),
    "workshop": (
        "drill",
        "toolbox",
        "ladder",
        "lathe",
        "hand saw",
        "sander",
        "air pump",
        "workbench",
    ),
    "wardrobe": ("coat", "wool hat", "scarf", "belt", "jacket", "suitcase", "umbrella", "dress"),
    "vehicles": (
        "bicycle",
        "scooter",
        "caravan",
        "motorbike",
        "rowing boat",
        "trailer",
        "tractor",
        "canoe",
    ),
    "office": (
        "desk",
        "printer",
        "bookshelf",
        "typewriter",
        "lamp",
        "cabinet",
        "armchair",
        "clock",
    ),
    "music": ("violin", "piano", "guitar", "trumpet", "drum", "flute", "cello", "harp"),
    "toys": (
        "doll house",
        "train set",
        "rocking horse",
        "kite",
        "puppet",
        "chess set",
        "globe",
        "sledge",
    ),
}

HARM_TOPICS: dict[str, tuple[str, ...]] = {
    "documents": (
        "passport",
        "tax record",
        "work permit",
        "court letter",
        "land deed",
        "diary",
        "visa",
    ),
    "school": (
        "exam paper",
        "report card",
        "answer key",
        "diploma",
        "lab notebook",
        "thesis",
        "school bus",
    ),
    "money": (
        "bank card",
        "cheque book",
        "cash box",
        "gold coin",
        "wage slip",
        "charity box",
        "cash till",
    ),
    "computers": (
        "mail server",
        "laptop",
        "database",
        "backup disk",
        "router",
        "web shop",
        "sensor",
    ),
    "traffic": (
        "traffic light",
        "speed camera",
        "road sign",
        "toll gate",
        "bus stop",
        "rail switch",
        "taxi",
    ),
    "health": (
        "patient file",
        "blood sample",
        "ambulance",
        "first aid kit",
        "vaccine box",
        "scanner",
        "ward",
    ),
    "culture": (
        "painting",
        "bronze statue",
        "church bell",
        "ancient vase",
        "crown",
        "war medal",
        "altar",
    ),
    "voting": (
        "ballot box",
        "voter list",
        "voting booth",
        "poster",
        "petition",
        "city seal",
        "poll result",
    ),
    "shops": (
        "shop window",
        "parcel",
        "wine crate",
        "jewel case",
        "warehouse",
        "price list",
        "hand bag",
    ),
    "animals": ("guide dog", "race horse", "parrot", "beehive", "bird nest", "stable", "aquarium"),
    "utilities": (
        "water pipe",
        "power line",
        "gas meter",
        "fire alarm",
        "street lamp",
        "dam",
        "phone mast",
    ),
    "sports": (
        "trophy",
        "drug test",
        "goal post",
        "stop watch",
        "score board",
        "race car",
        "stadium",
    ),
}
