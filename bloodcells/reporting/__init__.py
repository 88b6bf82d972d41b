"""Presentation of results: run folders, tables, figures, and one page with everything."""
