"""Backfills that the service runs.

- `job`: one of them, as its gallery has it on record;
- `jobs`: starts them in threads, lists them, stops them, carries on those of a process that is gone.
"""
