"""Search inside PostgreSQL.

- `source`: pgvector finds candidates, float64 decides;
- `hnsw`: which indexes of pgvector there are, and building them beside the traffic.
"""
