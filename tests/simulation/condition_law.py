"""The law about the conditions of one status: they must not contradict each other.

A user reads all of them together, for example in `kubectl describe`. The simulation checks every status that the
operator writes, and the unit tests check the status of every situation that `diagnose` knows.
"""

from __future__ import annotations

from typing import Any

from dedup_api.reasons import Reason

Json = dict[str, Any]
AT_REST = {Reason.SUSPENDED, Reason.COMPLETED, Reason.SCHEDULED}
"""Ready is True with these reasons while no driver runs."""
WORKS = "The driver continues"
"""The beginning of the sentence in Ready that says so while the operator refuses to act."""
RESTARTS = "The driver ended, and kubelet restarts it"


def find_contradiction(status: Json) -> str:
    """Describes the first contradiction in a DedupJob's status. Returns an empty string if there is none."""
    conditions = {entry["type"]: entry for entry in status["conditions"]}
    ready, driver, progress, pod = conditions["Ready"], conditions["DriverRunning"], conditions["ProgressRecent"], status.get("driver", {})
    is_true, at_rest = ready["status"] == "True", ready["reason"] in AT_REST
    runs, does_not_run = driver["status"] == "True", driver["status"] == "False"
    continues, silent = WORKS in ready["message"], progress["reason"] == Reason.DRIVER_UNREACHABLE
    checks = {
        "Ready is Unknown, and Reconciling is not True": ready["status"] == "Unknown" and "Reconciling" not in conditions,
        "Ready is not Unknown, and Reconciling is True": ready["status"] != "Unknown" and "Reconciling" in conditions,
        "Stalled is True, and Ready is not False": "Stalled" in conditions and ready["status"] != "False",
        "Ready is True, and CheckpointReady is False": is_true and conditions["CheckpointReady"]["status"] == "False",
        "Ready says that no driver should run, and one does": is_true and at_rest and runs,
        "Ready says that the driver works, and it does not run": is_true and not at_rest and not runs,
        "Ready says that the driver works, and it makes no progress": is_true and not at_rest and progress["status"] == "False",
        "no driver runs, and its progress is known": does_not_run and progress["status"] != "Unknown",
        "no driver runs because of Ready, and Ready is Running": does_not_run and ready["reason"] == Reason.RUNNING,
        "the driver continues, and it does not run": continues and not runs,
        "the driver continues, and it makes no progress": continues and progress["status"] == "False",
        "the driver continues, and it does not answer": continues and silent,
        "kubelet restarts the driver, and it runs": RESTARTS in ready["message"] and runs,
        "the driver does not answer, and its progress is known": ready["reason"] == Reason.DRIVER_UNREACHABLE and not silent,
        "Ready and ProgressRecent disagree about NoProgress": ready["reason"] == Reason.NO_PROGRESS != progress["reason"],
        "a pod exists, and DriverRunning says that none does": "pod" in pod and driver["message"].startswith("No driver runs"),
        "the driver has a start time, and it does not run": "startedAt" in pod and does_not_run,
    }
    return next((text for text, violated in checks.items() if violated), "")
