"""The clinic's rules.

Read them in this order: protocols, intervals, availability, readiness, course_rules and
lifecycle are pure: facts in, answers out, no database, no clock. `facts` fetches what they
need; `booking` is the only writer of visits and slots; `sessions` is the day of a visit;
`courses` opens courses; `jobs` is what the passing of time does.
"""
