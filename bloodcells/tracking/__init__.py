"""Run folders, and the environment and the code of an experiment."""
