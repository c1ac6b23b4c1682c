"""What the API says when it says no, written out.

`python -m tests.house.problems` prints docs/problems.md.
"""

import sys

from api.problems import CATALOG

HEAD = """# Problems

Every error of the API is a problem document (RFC 9457): `type` is `/problems/<code>`, and that
address is a page with what stands here. `detail` is for people, `errors` points at fields,
further members are the facts that help to choose differently. `instance` is the request, as
the logs call it. This page is made from `api/problems.py`.

"""


def page() -> str:
    """The whole page."""
    lines = ["| code | status | what it means | what to do |", "|---|---|---|---|"]
    lines += [
        f"| `{one.code}` | {one.status} | {one.meaning} | {one.advice} |".replace("\n", " ")
        for one in CATALOG.values()
    ]
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
