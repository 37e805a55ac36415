"""Taking over an application's vectors where they are, and handing the column back with new ones.

- `inspect`: a table looked at first; `adopt`: a ledger beside it; `adopted`: what that gives;
- `collection`: the same of a collection of Qdrant;
- `handing_over`: back to the application: `release` into its table, `release_collection` into its collection.
"""
