"""Judges that live elsewhere: endpoints that speak the OpenAI protocol."""
