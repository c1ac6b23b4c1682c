"""Ages: how old somebody is on a day, and when they will be.

Pure: no database, no clock, no Flask.
"""

from datetime import date


def age_on(day: date, born: date) -> int:
    """How old somebody is on a day, in years."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))


def of_age(born: date, years: int) -> date:
    """The first day on which somebody is so old: `age_on` says so then, and from then on."""
    try:
        return born.replace(year=born.year + years)
    except ValueError:  # 29 February, in a year without one
        return date(born.year + years, 3, 1)
