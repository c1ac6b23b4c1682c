"""What in a migration may break the version before, or make everybody wait. Read, not run."""

import ast
import re
from collections.abc import Iterator

BIG = frozenset(
    {
        "appointment",
        "appointment_event",
        "audit_event",
        "checklist_item",
        "idempotency_key",
        "message",
        "message_archive",
        "observation",
        "patient",
        "questionnaire_response",
        "slot",
    }
)
"""Tables that grow with every visit: to read one through takes longer than a lock may be held."""

_SQL = {
    r"\bDROP\s+(TABLE|COLUMN|SCHEMA|VIEW|TYPE)\b": "drops what the version before uses",
    r"\bRENAME\b": "renames what the version before uses",
    r"\bTRUNCATE\b": "loses rows",
    r"\bALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE\b": "changes a type and rewrites the table",
    r"\bSET\s+NOT\s+NULL\b": "the version before may write null",
    r"\bCREATE\s+(UNIQUE\s+)?INDEX\s+(?!CONCURRENTLY)": "keeps everybody from writing meanwhile",
    r"\bADD\s+COLUMN\b(?=[^;]*NOT\s+NULL)(?![^;]*DEFAULT)": "the version before cannot insert",
    r"\bVACUUM\s+FULL\b|\bCLUSTER\b|\bLOCK\s+TABLE\b": "keeps everybody out",
}

_GONE = frozenset({"drop_table", "drop_column", "drop_constraint", "rename_table"})
_CHECKED = frozenset({"create_foreign_key", "create_check_constraint", "create_unique_constraint"})


def dangers(source: str) -> Iterator[str]:
    """What `upgrade`, and whatever it calls in its file, does that an expanding one may not."""
    tree = ast.parse(source)
    bodies = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    reached = list(_reached("upgrade", bodies))
    calls = [node for body in reached for node in ast.walk(body) if isinstance(node, ast.Call)]
    new = {_first(call) for call in calls if _name(call) == "create_table"}
    for call in calls:
        yield from _of_call(call, new)
    constants = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
    for told in _texts([*reached, *constants]):
        for pattern, why in _SQL.items():
            if re.search(pattern, told, re.IGNORECASE):
                yield f"{' '.join(told.split())[:60]!r}: {why}"


def _reached(name: str, bodies: dict[str, ast.FunctionDef]) -> Iterator[ast.FunctionDef]:
    """A function, and those of its file that it names."""
    if (body := bodies.pop(name, None)) is None:
        return
    yield body
    for node in ast.walk(body):
        if isinstance(node, ast.Name):
            yield from _reached(node.id, bodies)


def _of_call(call: ast.Call, new: set[str]) -> Iterator[str]:
    name, table = _name(call), _first(call)
    told = {word.arg: word.value for word in call.keywords}
    if name in _GONE:
        yield f"{name}({table}): the version before may use it"
    elif name == "alter_column" and {"type_", "new_column_name"} & told.keys():
        yield f"alter_column({table}): another type or name"
    elif name == "alter_column" and _is(told.get("nullable"), False):
        yield f"alter_column({table}): NOT NULL on a column that is there"
    elif name == "add_column" and _is_bare(call):
        yield f"add_column({table}): NOT NULL without a server default"
    elif name in {"create_index", *_CHECKED} and (where := _second(call)) in BIG - new:
        kind = "postgresql_concurrently" if name == "create_index" else "postgresql_not_valid"
        if not _is(told.get(kind), True):
            yield f"{name} on {where}: say {kind}=True"


def _is_bare(call: ast.Call) -> bool:
    """Whether the column that is added may not be null and has no default in the database."""
    column = call.args[1] if len(call.args) > 1 else None
    if not isinstance(column, ast.Call):
        return False
    told = {word.arg: word.value for word in column.keywords}
    return _is(told.get("nullable"), False) and "server_default" not in told


def _texts(nodes: list[ast.stmt]) -> Iterator[str]:
    """Every text that stands in code, and none that documents it."""
    for node in nodes:
        documented = {
            one.body[0].value
            for one in ast.walk(node)
            if isinstance(one, ast.FunctionDef) and isinstance(one.body[0], ast.Expr)
        }
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield from () if part in documented else (part.value,)


def _name(call: ast.Call) -> str:
    """The name of a function of `op`; '' for any other."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.attr if function.value.id == "op" else ""
    return ""


def _first(call: ast.Call) -> str:
    return _text(call.args[0]) if call.args else ""


def _second(call: ast.Call) -> str:
    return _text(call.args[1]) if len(call.args) > 1 else ""


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "?"


def _is(node: ast.expr | None, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
