"""Results for readers: run folders, tables, figures, one page of all."""
