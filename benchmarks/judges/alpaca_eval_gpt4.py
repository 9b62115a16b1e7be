"""AlpacaEval 1's judge, from the installed package: two models ranked in a list.

Template, parser and the one order an item is asked in are alpaca_eval's own.
"""

from harness.api import packaged

JUDGE = packaged("alpaca_eval_gpt4")
