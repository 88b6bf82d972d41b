"""Speed and memory: how fast a machine computes, and where time and memory go."""
