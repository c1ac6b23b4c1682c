"""Faults: what is wrong with a clinic's files, collected until all of them are known."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where, and what to do about it."""

    file: str
    line: int
    field: str
    detail: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field}: {self.detail}"


class ClinicFaults(Exception):
    """The files do not make a clinic. Nothing was written."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"{len(faults)} faults")
        self.faults = sorted(faults, key=lambda fault: (fault.file, fault.line, fault.field))


@dataclass(slots=True)
class Notes:
    """The faults found so far."""

    faults: list[Fault] = field(default_factory=list)

    def add(self, file: str, line: int, name: str, detail: str) -> None:
        """Note a fault and go on."""
        self.faults.append(Fault(file, line, name, detail))
