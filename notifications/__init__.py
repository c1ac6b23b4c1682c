"""What is said, when, by which way, and the keeping of it.

Read in this order: cadence (pure), outbox (plans in the caller's transaction), queue (the life
of a message, every arrow one guarded UPDATE), templates and invitation (the words), channels,
delivery (one sweep).
"""
