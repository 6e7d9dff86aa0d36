"""A simulation of the control plane: the operator's own code in a simulated cluster, with faults, in virtual time.

What is simulated, and where:

* the API server (`api_server`), and the network between it and the operator (`network`): answers are slow, lost or old
* the controllers: StatefulSet, Job and CronJob (`workload_controllers`), the garbage collector and the protection of
  claims (`garbage_collector`)
* scheduler, volume binder, kubelet and nodes (`nodes`), and the driver processes with their checkpoints (`driver`)
* users who create, edit and delete DedupJobs and change objects directly (`users`)
* the operator's processes and the events that reach them (`operators`). Their code is the real one: reconciler, work
  queue, relist and all of `dedup_operator.domain`
* time (`loop`): nothing waits. An event loop with virtual time runs everything, so 10 minutes take milliseconds.

One seed is one history. `run.Simulation(seed)` draws from the seed which faults (`faults`) happen, what the users do,
and how long each step takes. For 30 to 110 virtual seconds users act and faults happen. Then the faults end, and the
operator must reach the desired state (`desired_state`) and keep it without writing anything.

The invariants (`invariants.Invariant`) are what must be true: some after every step, some for every write of the
operator, and some at the end of a seed. A violated invariant ends the seed.

How to repeat a seed, and what to do when one fails:

1. `PYTHONPATH=tests .venv/bin/python -m simulation --seed N` runs the seed again and prints its history: every change
   of an object, every decision of the operator, every fault, with the virtual time. The last line is the invariant that
   is violated, and what happened. The same seed with the same code always has the same history.
2. Read the history from the end. The write that violates the invariant is the last one. Find the decision before it,
   and what the operator could know at that time.
3. Decide who is wrong. Often it is the operator: fix it, and add a test to tests/unit/operator. If the simulated
   cluster does something that Kubernetes never does, fix the simulation, and name the source of the real behaviour.
   If the invariant forbids something that is right, correct the invariant, and explain there why.
4. Run `make test-simulation`, which runs 5,000 seeds, and `make test-full`, which also checks that the simulation still
   finds each deliberately broken operator (`test_mutants`).

A change of the order or number of random draws gives every seed another history. That is no problem for the tests, but
earlier seed numbers then no longer repeat earlier failures.
"""
