"""Hyper-parameter search: the space, the trials, the study."""
