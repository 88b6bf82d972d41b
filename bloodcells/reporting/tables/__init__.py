"""The generated tables of the documents, in Markdown."""
