"""A folder as a way out: each message a file that a person can read. For development."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from notifications.channels import Accepted, Envelope, Outcome, Refused


@dataclass(frozen=True, slots=True)
class FolderChannel:
    """Writes messages into a folder."""

    folder: Path
    suffix: str = "eml"

    def hand_over(self, envelope: Envelope) -> Outcome:
        """Write the message whole or not at all. A second try overwrites the first."""
        name = f"{envelope.due_at:%Y%m%dT%H%M%SZ}-{envelope.name}.{self.suffix}"
        half = self.folder / f".{name}.half"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with half.open("wb") as file:
                if self.suffix != "eml":
                    file.write(f"To: {envelope.recipient}\n\n".encode())
                file.write(envelope.content)
                file.flush()
                os.fsync(file.fileno())
            half.rename(self.folder / name)
        except OSError as error:
            with contextlib.suppress(OSError):
                half.unlink()
            return Refused(f"folder-{error.errno}", for_ever=False)
        return Accepted()

    def close(self) -> None:
        """Nothing is held."""
