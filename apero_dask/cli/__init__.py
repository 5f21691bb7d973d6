"""Command lines: arguments in, text and exit status out."""
