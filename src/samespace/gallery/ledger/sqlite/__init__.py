"""The ledger on SQLite: one file, no server.

- `engine`: begins transactions; `session`: one of them;
- `file`: where the file can be made, whether it can be written; `errors`: what SQLite says, in one line.
"""
