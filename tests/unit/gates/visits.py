"""The visits with gates, as `protocol/visit`, by what they have in common."""

INFUSIONS = "iv-infusion/infusion iv-infusion/booster"
GROUP = "group/group-session group/make-up"
CLINIC = f"{INFUSIONS} kap/medicine-session {GROUP} esketamine/session"
HOME = "at-home/home-session"
TRIAL = "mdma-at/session"
MEDICAL = f"{CLINIC} {HOME} {TRIAL}"
TALKS = "iv-infusion/preparation kap/preparation at-home/preparation group/group-preparation"
TRIAL_TALKS = "mdma-at/first-preparation mdma-at/preparation"
OREGON = (
    "psilocybin-oregon/session-under-5-mg psilocybin-oregon/session-5-to-10-mg "
    "psilocybin-oregon/session-10-to-25-mg psilocybin-oregon/session-25-to-35-mg "
    "psilocybin-oregon/session-35-to-50-mg"
)

NOBODY = ""
"""May pass over it."""
