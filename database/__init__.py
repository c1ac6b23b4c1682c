"""The database as a thing to be run and reached: its life cycle, its roles, its migrations.

Only the roots use this package. It knows nothing of what is stored.
"""
