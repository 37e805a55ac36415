"""The ledger: what a gallery holds, the source of truth, on SQLite or PostgreSQL."""
