"""The ledger: what a gallery holds, the source of truth, on SQLite or PostgreSQL.

- `ledger`: opens one, and begins transactions; `state`: what it holds, as values;
- `transactions/`: what one transaction can read and write, the same on both stores;
- `sqlite/`, `postgres/`: the two stores; `pool`: their open connections;
- `schema`, `migrations`: the tables, and what brings those of earlier versions forward;
- `adopted`, `adopted_collection`: an application's table or collection beside the ledger;
- `filters`: conditions on labels and metadata; `changes`: item changes one after another, for an index elsewhere;
- `query_counts`, `job_records`: small tables of upgrades with grace, and of the service.
"""
