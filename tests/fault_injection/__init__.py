"""The operator against a real API server, with a proxy between the two that injects faults.

What is real and what is simulated: etcd, the API server and the Kubernetes controllers (StatefulSet, Job, CronJob,
garbage collector, ...) are the real programs (`control_plane`). The operator is the real operator, one process per
namespace, forked so that it starts fast (`operators`, `fork_server`). The node and the drivers are simulated (`node`,
`drivers`): no container runs.

One run plays a scenario (`scenarios`), which is a list of user actions on one DedupJob, in its own namespace. First
every scenario runs without a fault; this is its baseline. Then the scenario runs again many times. In each of these
runs the proxy (`proxy`) injects one fault (`faults`) at one of the operator's writes: it kills the operator, loses an
answer, refuses a write, loses watch events, or answers with old lists. A run passes if all of this is true:

* The objects and the DedupJob's status in the end are those of the baseline (`state`).
* The run created as many objects of each kind as the baseline did (`object_counts`).
* Two drivers never used one checkpoint at the same time.
* Every change and deletion by the operator names the UID (and for changes the resourceVersion) of the object that it
  means.
* The condition Ready was never False for a reason that the baseline did not have.

There are hundreds of such runs. Therefore nothing in a run may take longer than the API server and its controllers
need.

What to do when a run fails: its title says how to repeat it. For `edit kill-after at write 3` the command is

    PYTHONPATH=tests .venv/bin/python -m fault_injection edit --fault kill-after --at 3

It runs the baseline and this one case. A run that fails prints the difference to the baseline, the operator's writes,
and the end of the operator's log. Read the difference first, then find in the log what the operator did after the
fault. `DEDUP_SEED=n make test-fault-injection` repeats the whole sample of a test run; the header of the test run
shows n.

Other tests that need the API server and its controllers but no real pods take the fixture `harness`, see
`fault_injection.harness.Harness`, and `test_without_proxy.py` for an example.
"""
