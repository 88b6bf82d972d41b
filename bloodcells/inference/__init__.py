"""The released classifier, and what it answers."""
