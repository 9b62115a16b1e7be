"""AlpacaEval 2's judge, from the installed package: the weight of one token over the other.

Template, parser and the one order an item is asked in are alpaca_eval's own.  It needs a backend
that gives the probabilities of tokens; without them every verdict is "unparsed".
"""

from harness.api import packaged

JUDGE = packaged("weighted_alpaca_eval_gpt4_turbo")
