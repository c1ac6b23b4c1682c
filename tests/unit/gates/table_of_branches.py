"""Which steps belong to a course only if an earlier one ended so: the clinical facts, section 8."""

from tests.unit.gates.table_of_courses import DOSES, GROUP, HOME, IV, OREGON
from tests.unit.gates.timed import OnlyIf

ENDS = "stop medical-review"
BRANCHES = [
    OnlyIf(protocol=IV, step="booster-1", anchor="reassessment-1", outcomes="continue"),
    OnlyIf(protocol=IV, step="reassessment-2", anchor="reassessment-1", outcomes="continue"),
    OnlyIf(protocol=IV, step="follow-up-induction", anchor="reassessment-1", outcomes=ENDS),
    OnlyIf(protocol=IV, step="follow-up-booster", anchor="reassessment-2", outcomes=ENDS),
    OnlyIf(protocol=IV, step="follow-up", anchor="reassessment-2", outcomes="continue"),
    OnlyIf(protocol=HOME, step="follow-up-stopped", anchor="reassessment-1", outcomes="stop"),
    OnlyIf(protocol=IV, step="booster-2", anchor="reassessment-2", outcomes="continue"),
    *(
        OnlyIf(protocol=HOME, step=step, anchor="reassessment-1", outcomes="continue")
        for step in (
            *("session-3", "debrief-3", "session-4", "debrief-4", "reassessment-2", "follow-up"),
        )
    ),
    *(
        OnlyIf(protocol=GROUP, step=step, anchor="group-integration-3", outcomes="session-missed")
        for step in ("make-up", "make-up-integration")
    ),
    *(
        OnlyIf(protocol=OREGON, step=f"session-{dose}", anchor="preparation", outcomes=dose)
        for dose in DOSES
    ),
]
