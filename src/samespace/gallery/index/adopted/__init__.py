"""Vectors that stay where an application keeps them: what a gallery asks of such a store, and PostgreSQL as one.

- `store`: what a gallery asks of such a store; `sync`: what the application did, brought to the ledger;
- `postgres`: a table as one; `lacking`: its items that no newer space has a vector of;
- `qdrant`, `qdrant_store`: a collection as one; `collection`: reading it; `payload`: conditions on its points.
"""
