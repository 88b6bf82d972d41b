"""Predictions and their evaluation: metrics, calibration, uncertainty, activation maps."""
