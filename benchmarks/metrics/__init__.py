"""One file is one scorer that needs no judge."""
