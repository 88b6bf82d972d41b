"""How fast a machine computes, and where the time and the memory go."""
