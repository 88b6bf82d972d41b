"""Presentation of results: tables, figures, and one page with everything."""
