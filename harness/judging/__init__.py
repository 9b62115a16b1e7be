"""What judging is made of: endpoints that answer, formats of verdicts, what follows from them."""
