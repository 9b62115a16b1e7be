"""Commands too long for ``__main__``: a function each, which says what the options mean."""
