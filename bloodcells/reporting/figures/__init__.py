"""Figures, drawn from arrays and saved rows in one style, without a display."""
