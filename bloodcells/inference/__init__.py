"""The released classifier, its predictions, and its export."""
