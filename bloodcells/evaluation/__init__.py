"""Predictions and what they are worth: metrics, calibration, uncertainty, activation maps."""
