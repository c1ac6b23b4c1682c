"""Who somebody is: accounts, passwords, second factors, sessions. Knows no HTTP.

Edges ask it and end the transaction; what a person may do then is scheduler/permissions.py.
"""
