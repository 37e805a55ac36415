"""One transaction on a ledger; each class adds to the one before, in this order.

- `transaction`: asks for many values at once, and turns values that no gallery wrote into an error;
- `work_reader`: what can be read of work lists;
- `reader`: what can be read, all of it as of one moment; `stored_state` reads everything but the items;
- `work_list`: items without a vector of a space, as an order and the ranges of it that are left;
- `queue`: what workers write: claims, failures, heartbeats, traffic;
- `writer`: everything else that can be written.
"""
