"""Vectors that stay where an application keeps them: what a gallery asks of such a store, and PostgreSQL as one."""
