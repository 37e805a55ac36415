"""Taking over an application's vectors where they are, and handing the column back with new ones.

- `inspect`: a table looked at first; `adopt`: a ledger beside it; `adopted`: what that gives;
- `collection`: the same of a collection of Qdrant;
- `handing_over`: back to the application. Into a table: `release_plan`, to look at first, and `release`, which does it;
  into a collection: `release_collection`.
"""
