"""The ledger on PostgreSQL with pgvector: a schema of a database.

- `engine`: begins transactions; `session`: one of them; `copy_format`: vectors as COPY takes them;
- `address`: `postgresql://…`; `watch`: connections that never wait for ever;
- `checks`: what a schema holds, what the server says of it; `errors`: what it says when something fails, in one line.
"""
