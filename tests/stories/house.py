"""The demo's practice, open for business: its processes run, and the front desk has its keys."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from models.vocabulary import Role
from tests.service import Service

NEW_YORK = ZoneInfo("America/New_York")
GATES = ("medical-clearance", "consent")


def at(told: str) -> datetime:
    """A wall time in New York, as 2027-03-01 10:00."""
    return datetime.fromisoformat(told).replace(tzinfo=NEW_YORK)


START = at("2027-02-15 09:00")


@dataclass
class House:
    """The practice over HTTP, and the mail that it sends."""

    service: Service
    nurse: str
    """The key of the monitor, who vouches for what the prescriber cannot."""

    def get(self, path: str, role: Role = Role.SCHEDULER) -> Any:
        answer = self.service.call(role, "GET", path)
        assert answer.ok, answer.text
        return answer.json()

    def post(self, path: str, told: Any, role: Role = Role.SCHEDULER, **headers: str) -> Any:
        answer = self.service.call(role, "POST", path, told, **headers)
        assert answer.ok, answer.text
        return answer.json()

    def patient_named(self, given_name: str) -> str:
        """The id of a patient of the demo."""
        found = self.get("/patients?limit=100")["items"]
        return str(next(one["id"] for one in found if one["given_name"] == given_name))

    def welcome(self, number: int) -> str:
        """Register an invented patient. Returns their id."""
        told = {
            "record_number": f"ST-{number:04}",
            "given_name": f"Pat{number}",
            "family_name": "Example",
            "birth_date": "1980-05-17",
            "email": f"pat{number}@example.com",
            "phone": f"+1212555{2000 + number}",
            "time_zone": "America/New_York",
        }
        return str(self.post("/patients", told, Role.ADMIN)["id"])

    def clear(self, patient: str, *gates: str) -> None:
        """The prescriber vouches for gates; for all that shut booking, if none are named."""
        for gate in gates or GATES:
            told = {"gate": gate, "outcome": "cleared"}
            self.post(f"/patients/{patient}/clearances", told, Role.CLINICIAN)
        if not gates:
            self.ask(patient)

    def ask(self, patient: str, **answers: str) -> Any:
        """The prescriber asks for all that may speak against a dose; unless named it is absent."""
        asked = self.get(f"/patients/{patient}/screening", Role.CLINICIAN)["conditions"]
        told = [
            {
                "condition": one["code"],
                "answer": answers.get(one["code"].replace("-", "_"), "absent"),
            }
            for one in asked
        ]
        return self.post(f"/patients/{patient}/screens", {"answers": told}, Role.CLINICIAN)

    def reconcile(self, patient: str, **taken: str) -> Any:
        """The prescriber goes through what a patient takes: names, each with its class."""
        listed = [{"name": name, "class": code} for name, code in taken.items()]
        path = f"/patients/{patient}/reconciliations"
        return self.post(path, {"medicines": listed}, Role.CLINICIAN)

    def open_course(self, patient: str, protocol: str = "kap") -> Any:
        return self.post("/courses", {"patient_id": patient, "protocol_code": protocol})

    def act(self, visit: str, action: str, role: Role = Role.SCHEDULER, **told: Any) -> Any:
        """Do something to a visit as it is now."""
        path = f"/appointments/{visit}"
        etag = self.service.call(role, "GET", path).headers["ETag"]
        return self.post(f"{path}/{action}", told, role, **{"If-Match": etag})

    def refused(self, visit: str, action: str, role: Role = Role.CLINICIAN) -> list[str]:
        """Try to do something to a visit that is not ready; the gates that are in the way."""
        path = f"/appointments/{visit}"
        etag = self.service.call(role, "GET", path).headers["ETag"]
        answer = self.service.call(role, "POST", f"{path}/{action}", {}, **{"If-Match": etag})
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/not-ready")
        return [gate["code"] for gate in answer.json()["gates"]]

    def gates(self, visit: str) -> dict[str, Any]:
        """How every gate of a visit stands, by code."""
        shown = self.get(f"/appointments/{visit}/readiness")
        return {one["code"]: one for one in shown["gates"]}

    def measure(self, visit: str, **values: float) -> None:
        """The nurse notes what she measured."""
        told = {"values": {code.replace("_", "-"): value for code, value in values.items()}}
        self.post(f"/appointments/{visit}/observations", told, Role.CLINICIAN, **self.as_nurse)

    def screen(self, patient: str) -> None:
        """A clinician asks the safety questions of the day, and hears nothing that worries."""
        answers = dict.fromkeys(("1", "2", "3", "4", "5", "6", "6-recent"), 0)
        told = {"instrument": "c-ssrs", "answers": answers}
        self.post(f"/patients/{patient}/questionnaire-responses", told, Role.CLINICIAN)

    def tick(self, visit: str, *codes: str) -> None:
        """Staff settle what is open on a visit's checklist, all of it or these."""
        for item in self.get(f"/appointments/{visit}/checklist")["items"]:
            if item["status"] == "requested" and (not codes or item["code"] in codes):
                answer = self.service.call(
                    Role.CLINICIAN,
                    "PATCH",
                    f"/checklist-items/{item['id']}",
                    {"status": "completed"},
                    **{"If-Match": item["etag"]},
                )
                assert answer.ok, answer.text

    def escort(self, visit: str, name: str = "Evan Escort", **told: Any) -> None:
        """Name who takes the patient home."""
        path = f"/appointments/{visit}/escort"
        now = self.service.call(Role.SCHEDULER, "GET", path)
        seen = {"If-Match": now.headers["ETag"]} if now.ok else {}
        named = {
            "name": name,
            "phone": "+12125550199",
            "relation": "partner",
            "email": "evan.escort@example.com",
            "may_message": True,
            "confirmed": True,
            **told,
        }
        answer = self.service.call(Role.SCHEDULER, "PUT", path, named, **seen)
        assert answer.ok, answer.text

    @property
    def as_nurse(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.nurse}"}

    def said(self, since: int = 0) -> list[str]:
        """To whom what was written, in the order of arrival."""
        return [
            f"{mail['To'].addresses[0].display_name}: {mail['Subject']}"
            for mail in self.service.mail.mails[since:]
        ]
