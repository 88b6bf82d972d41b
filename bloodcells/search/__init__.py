"""Hyper-parameter search: its space, its trials, its study."""
