"""The session of a web request: what all three adapters have in common."""
