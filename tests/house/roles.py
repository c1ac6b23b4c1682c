"""Who may do what, written out from the bundles.

`python -m tests.house.roles` prints docs/permissions.md.
"""

import sys

from models.vocabulary import Role
from scheduler.permissions import BUNDLES, MEANS

HEAD = """# Who may do what

A door of the API asks for one permission; a role is a bundle of them. This table is made from
`scheduler/permissions.py`; tests hold that every door names a permission, and that this page is
what the code says. What takes a licence (lifting a gate, signing a protocol) is asked beside this:
it takes a key or a person with a practitioner behind it whose qualification is valid that day.

A key may be narrowed to some of its role's permissions (`scopes`) and to the networks it is used
from (`networks`); it ends within a year. `POST /api/v1/api-keys/{id}/rotate` makes its successor,
and both work for a week. `last_used_on` shows which keys nobody would miss.

"""


def page() -> str:
    """The whole page."""
    names = " | ".join(Role)
    lines = [f"| permission | {names} | what it lets one do |", f"|---|{'---|' * len(Role)}---|"]
    for permission, meaning in MEANS.items():
        marks = " | ".join("✓" if permission in BUNDLES[role] else "" for role in Role)
        lines.append(f"| `{permission}` | {marks} | {meaning} |")
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
