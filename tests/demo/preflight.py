"""Checks a cluster of the user's before the demo writes anything to it, and says what is missing."""

from __future__ import annotations

import json
import re

from demo.access import Access
from demo.cluster import CRD, RELEASE, Json
from demo.settings import SettingsError
from testbed.console import note
from testbed.shell import MissingPrerequisiteError, TestbedError

KUBERNETES_AT_LEAST = (1, 30)
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
CRDS = "customresourcedefinitions.apiextensions.k8s.io"
CLUSTER_RIGHTS = (("get", "namespaces"), ("create", "namespaces"), ("delete", "namespaces"), ("get", CRDS))
NAMESPACE_RIGHTS = (
    ("create", "dedupjobs.streamdedup.dev"),
    ("create", "deployments.apps"),
    ("create", "statefulsets.apps"),
    ("create", "pods"),
    ("create", "pods/exec"),
    ("get", "pods/log"),
    ("get", "pods/proxy"),
    ("create", "configmaps"),
    ("create", "secrets"),
    ("create", "services"),
    ("create", "serviceaccounts"),
    ("create", "roles.rbac.authorization.k8s.io"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
)


def announce(access: Access) -> None:
    """Says which cluster this is, and that it answers. Comes before everything else."""
    where = ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]
    note(f"  cluster: context {access.context} of {access.kubeconfig}")
    note(f"  API server: {access.kubectl(*where)}")
    try:
        version = json.loads(access.kubectl("version", "-o", "json", "--request-timeout=20s"))["serverVersion"]["gitVersion"]
    except (TestbedError, KeyError) as error:
        raise MissingPrerequisiteError(f"The API server does not answer. {error}") from error
    note(f"  Kubernetes: {version}")
    numbers = re.match(r"v(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < KUBERNETES_AT_LEAST:
        raise MissingPrerequisiteError(f"The operator needs Kubernetes {'.'.join(map(str, KUBERNETES_AT_LEAST))} or newer.")


def raise_without_rights(access: Access, namespace: str) -> None:
    """Names every right that the kubeconfig's user lacks."""
    if access.may("*", "*"):
        return
    needed = [(verb, resource, "") for verb, resource in CLUSTER_RIGHTS]
    needed += [(verb, resource, namespace) for verb, resource in NAMESPACE_RIGHTS]
    missing = [(verb, resource, where) for verb, resource, where in needed if not access.may(verb, resource, where)]
    may_see_crd = ("get", CRDS, "") not in missing
    if not (may_see_crd and find_crd(access)) and not access.may("create", CRDS):
        missing.append(("create", CRDS, ""))
    if missing:
        lines = [f"  {verb} {resource}" + (f" in namespace {where}" if where else "") for verb, resource, where in missing]
        raise MissingPrerequisiteError("\n".join(["The user of this context lacks rights that the demo needs:", *lines]))


def choose_storage_class(access: Access, wanted: str) -> str:
    """The storage class for the checkpoint: the one that the user named, or empty for the cluster's default."""
    try:
        classes = json.loads(access.kubectl("get", "storageclasses", "-o", "json"))["items"]
    except TestbedError as error:
        note(f"  the storage classes cannot be listed, so the demo relies on a default one ({error})")
        return wanted
    return pick_storage_class(classes, wanted)


def pick_storage_class(classes: list[Json], wanted: str) -> str:
    names = [item["metadata"]["name"] for item in classes]
    if wanted and wanted not in names:
        raise SettingsError(f"The cluster has no storage class {wanted}. It has: {', '.join(names) or 'none'}.")
    if not wanted and not any(item["metadata"].get("annotations", {}).get(DEFAULT_CLASS) == "true" for item in classes):
        choice = f"Name one with STORAGE_CLASS=…; it has: {', '.join(names)}." if names else "It has none at all: install a provisioner."
        raise MissingPrerequisiteError(f"The cluster has no default storage class, and the checkpoint needs a volume. {choice}")
    return wanted


def raise_if_another_operator_runs(access: Access, own_namespace: str) -> None:
    """Two operators would both act on the demo's DedupJob."""
    try:
        found = access.kubectl(
            "get", "deployments", "--all-namespaces", "-l", f"app.kubernetes.io/name={RELEASE}",
            "-o", "jsonpath={range .items[*]}{.metadata.namespace}{\"\\n\"}{end}",
        )  # fmt: skip
    except TestbedError:
        return  # without the right to list them, the demo cannot know
    others = sorted(set(found.split()) - {own_namespace})
    if others:
        raise MissingPrerequisiteError(
            f"A dedup-operator runs already in this cluster, in namespace {', '.join(others)}. Two operators would act on one job. "
            "Uninstall it first, or use another cluster."
        )


def find_architecture(access: Access) -> str:
    """The processor architecture of the nodes; empty when it is unknown or when they differ."""
    try:
        found = set(access.kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.architecture}").split())
    except TestbedError:
        return ""
    return found.pop() if len(found) == 1 else ""


def find_crd_owner(crd: Json | None) -> str:
    """Where the Helm release that brought the CRD is installed; empty when no release did."""
    annotations = (crd or {}).get("metadata", {}).get("annotations", {})
    return str(annotations.get("meta.helm.sh/release-namespace", ""))


def find_crd(access: Access) -> Json | None:
    text = access.kubectl("get", "crd", CRD, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None
