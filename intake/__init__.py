"""Intake: a clinic read from files as clinics keep them: tables, calendars, protocols.

All or nothing. Everything that is wrong is told in one pass, with file, line and field, so
that nobody mends one line at a time.
"""
