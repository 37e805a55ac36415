"""Indexes: what answers a search, derived from the ledger and never trusted over it."""
