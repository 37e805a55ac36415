"""Search on index files beside the ledger, or in memory.

- `source`: `LocalSource`, snapshots for searches; `state`: what they look at, and how the next revision's is made;
- `loading`: vectors from memory, files and the ledger; `placing`: which of their rows the ledger still has;
- `hnsw`: a graph over the rows of one space; `graph_files`: its files; `walk`: a graph as one state uses it;
- `together`: the nearest items of several spaces in one pass;
- `compaction`: rows from memory to files; `served_files`: row numbers of items beside them.
"""
