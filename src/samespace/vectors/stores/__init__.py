"""Vectors in databases and in data sets of other libraries: one file each, imported only where it is used."""
