"""The Redis store: counters and holds in Redis, everything else in an SQL database, the ledger.

Why two places: an admission is one script in Redis, without a lock of the database. But the ledger and its reports need
indexes, transactions and durability, which the SQL store has already.

**The ledger is the truth, counters are a cache of it.** A counter is what the ledger has for its window, the top-ups of
the limit and the open holds. It may be lost at any time: the next admission sums the ledger again, with the tenant
locked in the database. So this is all that can go wrong:

- *Redis is flushed, or restarts without persistence.* The holds of calls in flight are gone; what these calls cost is
  charged when they settle.
- *Redis restarts from an old snapshot, or a replica takes over.* Each script compares the server's run id with the one
  that the tenant's counters were made under. Another run: the counters are dropped and summed again.
- *A process dies between its commit in the database and the change in Redis.* Before the commit it leaves a mark in
  Redis. A mark that is older than `MARK_SECONDS` drops the tenant's counters.

A change of Redis that belongs to a transaction is made after its commit (`effects.py`). A counter has an id: what is to
be added is added to the very counter that was seen before the commit, with the tenant locked. A younger one has been
summed from the ledger with the row in it.

A tenant has one hash slot, so that its scripts work in a cluster. Limits on all tenants together have another one:
admission takes a hold there second, and gives the first back if it is refused.
"""
