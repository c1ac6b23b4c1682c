"""Public holidays: on which days is a site closed without anybody's writing it down?

A region is a country or a state of it as ISO 3166 has them: `US`, `US-NY`. Days and names are
the `holidays` library's; a clinic names those on which it works all the same.

Pure: no database, no clock, no Flask.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import holidays

SOON = range(2026, 2041)
"""Years in which every name of a holiday turns up."""

_SUBSTITUTE = " (observed)"


@dataclass(frozen=True, slots=True)
class Holidays:
    """The public holidays of a site."""

    region: str
    zone: ZoneInfo
    worked: frozenset[str] = frozenset()
    """Names of those on which the site is open."""

    def close(self, opens: datetime) -> bool:
        """Whether hours that open at an instant fall on a day off at the site."""
        return self.is_off(opens.astimezone(self.zone).date())

    def is_off(self, day: date) -> bool:
        """Whether the site is closed on a day."""
        return any(
            plain(name) not in self.worked for name in of_year(self.region, day.year).get(day, ())
        )


def of_year(region: str, year: int) -> Mapping[date, tuple[str, ...]]:
    """The public holidays of a year by day; of a region that is not known there are none."""
    return _of_year(region, year) if is_known(region) else {}


def is_known(region: str) -> bool:
    """Whether the holidays of a region are known."""
    country, _, part = region.partition("-")
    parts = _regions().get(country)
    return parts is not None and (not part or part in parts)


def names(region: str, years: Iterable[int]) -> list[str]:
    """What its holidays are called in these years, in the order of their days."""
    found = {
        plain(name): None
        for year in years
        for _, together in sorted(of_year(region, year).items())
        for name in together
    }
    return list(found)


def unknown(region: str | None, told: Iterable[str]) -> list[str]:
    """Which of these names no holiday of the region has."""
    known = set() if region is None else set(names(region, SOON))
    return [name for name in told if name not in known]


def plain(name: str) -> str:
    """A holiday's name, whether on its day or on the one that stands in for it."""
    return name.removesuffix(_SUBSTITUTE)


@lru_cache(maxsize=256)
def _of_year(region: str, year: int) -> Mapping[date, tuple[str, ...]]:
    country, _, part = region.partition("-")
    found = holidays.country_holidays(country, subdiv=part or None, years=year)
    return {day: tuple(found.get_list(day)) for day in found if day.year == year}


@lru_cache(maxsize=1)
def _regions() -> Mapping[str, frozenset[str]]:
    listed = holidays.list_supported_countries(include_aliases=False)
    return {country: frozenset(parts) for country, parts in listed.items()}
