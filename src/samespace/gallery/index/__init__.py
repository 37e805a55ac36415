"""Indexes: what answers a search, derived from the ledger and never trusted over it.

- `base`: what a search sees of a gallery, whatever store the vectors come from; `found`: what it finds;
- `open`: which index answers for which store;
- `exact`: the nearest vectors by looking at all; `segments`: vectors as blocks; `manifest`: which of them count;
- `served`: which vector row each item has in each space;
- `local/`: index files beside the ledger. `pgvector/`: search inside PostgreSQL. `qdrant/`: search through Qdrant;
- `adopted/`: vectors that an application keeps.
"""
