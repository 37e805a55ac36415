"""Where users train already: one file for each other library, imported only by those who use it."""
