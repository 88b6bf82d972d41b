"""Run folders, the environment of a run, and the code that it was made by."""
