"""The cluster's daemons: their configuration files, command lines, and how to tell that each one is ready."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from testbed import probes
from testbed.daemons import Daemon
from testbed.layout import (
    API_PORT,
    CGROUP,
    CLUSTER_CIDR,
    CONTAINERD_SOCKET,
    DNS_IP,
    ETCD_PORT,
    NODE_IP,
    NODE_NAME,
    POD_BRIDGE,
    POD_CIDR,
    RUN,
    SERVICE_CIDR,
    Layout,
)
from testbed.packages import cni_folder
from testbed.pki import SERVING_NAMES, SUBJECTS
from testbed.shell import run, succeeds

NETWORK_NAME = "dedup-testbed"
START_ORDER = (
    "etcd", "containerd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "local-path-provisioner",
)  # fmt: skip


def _cni() -> str:
    bridge = {
        "type": "bridge", "bridge": POD_BRIDGE, "isGateway": True, "ipMasq": True, "hairpinMode": True,
        "ipam": {"type": "host-local", "dataDir": str(RUN / "ipam"), "ranges": [[{"subnet": POD_CIDR}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }  # fmt: skip
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": NETWORK_NAME, "plugins": [bridge, portmap]}, indent=1)


def snapshotter(layout: Layout) -> str:
    """overlayfs where the state folder's file system carries it, else plain copies (a checkout inside a container)."""
    probe = layout.state / "overlay-probe"
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={probe}/lower,upperdir={probe}/upper,workdir={probe}/work"
    works = succeeds(["mount", "-t", "overlay", "overlay", "-o", options, probe / "merged"])
    if works:
        run(["umount", probe / "merged"])
    run(["rm", "-rf", probe])
    return "overlayfs" if works else "native"


def _apparmor_off() -> str:
    """Where the kernel has AppArmor, containerd would load a profile that outlives the cluster."""
    enabled = Path("/sys/module/apparmor/parameters/enabled")
    return "\n  disable_apparmor = true" if enabled.exists() and enabled.read_text().strip() == "Y" else ""


def _containerd(layout: Layout, pause: str) -> str:
    return f"""version = 2
root = "{layout.state}/containerd"
state = "{RUN}/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{CONTAINERD_SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  # Needed where root lacks CAP_SYS_RESOURCE: without it every sandbox fails.
  restrict_oom_score_adj = true
  sandbox_image = "{pause}"
  netns_mounts_under_state_dir = true{_apparmor_off()}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_folder()}"
    conf_dir = "{layout.config}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter(layout)}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{RUN}/runc"
"""


def _kubelet(layout: Layout) -> str:
    # No image collection and hardly any eviction: images cannot be pulled again, and a nearly full disk is usual here.
    return f"""apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {layout.pki}/ca.crt}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {layout.pki}/kubelet.crt
tlsPrivateKeyFile: {layout.pki}/kubelet.key
address: {NODE_IP}
containerRuntimeEndpoint: unix://{CONTAINERD_SOCKET}
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /{CGROUP}
clusterDNS: [{DNS_IP}]
clusterDomain: cluster.local
resolvConf: {layout.config}/resolv.conf
podLogsDir: {layout.state}/pod-logs
volumePluginDir: {layout.state}/volume-plugins
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {{memory.available: 50Mi, nodefs.available: 50Mi, imagefs.available: 50Mi, nodefs.inodesFree: "0%", imagefs.inodesFree: "0%"}}
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
"""


def _kube_proxy(layout: Layout) -> str:
    # Zeros: the host's connection tracking limits are left alone. Loopback node ports would need route_localnet everywhere.
    return f"""apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
hostnameOverride: {NODE_NAME}
clusterCIDR: {CLUSTER_CIDR}
clientConnection: {{kubeconfig: {layout.config}/kube-proxy.kubeconfig}}
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
iptables: {{localhostNodePorts: false, minSyncPeriod: 0s}}
"""


def _resolv_conf() -> str:
    """The host's name servers without those on loopback, which from inside a pod would be the pod itself."""
    for source in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        if source.exists():
            lines = [line for line in source.read_text().splitlines() if not line.startswith(("nameserver 127.", "nameserver ::1", "#"))]
            if any(line.startswith("nameserver") for line in lines):
                return "\n".join(lines) + "\n"
    return "nameserver 192.0.2.53\n"  # a documentation address: names outside of the cluster simply do not resolve


def _helper_pod(image: str) -> str:
    """The pod that makes and removes a volume's folder with the scripts of manifests/storage.yaml."""
    return f"""apiVersion: v1
kind: Pod
metadata:
  name: helper-pod
spec:
  priorityClassName: system-node-critical
  automountServiceAccountToken: false
  tolerations:
  - {{operator: Exists}}
  containers:
  - name: helper-pod
    image: {image}
    imagePullPolicy: Never
"""


def render_config(layout: Layout, pause: str, helper_image: str) -> dict[Path, str]:
    config = layout.config
    paths = {"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(layout.volumes)]}]}
    return {
        config / "cni" / "10-pods.conflist": _cni(),
        config / "containerd.toml": _containerd(layout, pause),
        config / "kubelet.yaml": _kubelet(layout),
        config / "kube-proxy.yaml": _kube_proxy(layout),
        config / "resolv.conf": _resolv_conf(),
        config / "local-path.json": json.dumps(paths),
        config / "helper-pod.yaml": _helper_pod(helper_image),
    }


def daemons(layout: Layout, binaries: Mapping[str, Path]) -> dict[str, Daemon]:
    pki, config = layout.pki, layout.config
    etcd_url = f"http://127.0.0.1:{ETCD_PORT}"

    def healthz(port: int, scheme: str = "http") -> bool:
        return probes.http_ok(f"{scheme}://127.0.0.1:{port}/healthz")

    def command(name: str, *flags: str) -> tuple[str, ...]:
        return (str(binaries[name]), *flags)

    def api_ready() -> bool:
        return probes.api_ready(layout)

    def node_ready() -> bool:
        return healthz(10248) and probes.condition_true(probes.api_object(layout, f"/api/v1/nodes/{NODE_NAME}"), "Ready")

    listed = [
        Daemon(
            "etcd",
            # No fsync: the cluster is made for tests and its data does not outlive the machine's next start.
            command(
                "etcd", f"--data-dir={layout.state}/etcd", f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}",
                "--listen-peer-urls=http://127.0.0.1:2380", "--unsafe-no-fsync", "--quota-backend-bytes=4294967296",
                "--auto-compaction-retention=5m", "--log-level=warn",
            ),
            probes.etcd_ready,
        ),
        Daemon(
            "containerd",
            (probes.command_path("containerd") or "containerd", "--config", f"{config}/containerd.toml"),
            partial(probes.socket_answers, CONTAINERD_SOCKET),
        ),
        Daemon(
            "kube-apiserver",
            command(
                "kube-apiserver", f"--etcd-servers={etcd_url}", f"--service-cluster-ip-range={SERVICE_CIDR}", f"--secure-port={API_PORT}",
                f"--advertise-address={NODE_IP}", f"--client-ca-file={pki}/ca.crt", f"--tls-cert-file={pki}/apiserver.crt",
                f"--tls-private-key-file={pki}/apiserver.key", f"--service-account-key-file={pki}/sa.pub",
                f"--service-account-signing-key-file={pki}/sa.key", "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                "--authorization-mode=Node,RBAC", "--allow-privileged=true",
                # OpenShift has the second one by default: it asks for the right to delete an object whose owner changes.
                "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
                f"--kubelet-client-certificate={pki}/apiserver-kubelet.crt", f"--kubelet-client-key={pki}/apiserver-kubelet.key",
                f"--kubelet-certificate-authority={pki}/ca.crt", "--kubelet-preferred-address-types=InternalIP", "--profiling=false",
            ),
            api_ready,
        ),
        Daemon(
            "kube-controller-manager",
            command(
                "kube-controller-manager", f"--kubeconfig={config}/kube-controller-manager.kubeconfig", "--bind-address=127.0.0.1",
                "--use-service-account-credentials", f"--service-account-private-key-file={pki}/sa.key", f"--root-ca-file={pki}/ca.crt",
                f"--cluster-cidr={CLUSTER_CIDR}", "--leader-elect=false", "--kube-api-qps=100", "--kube-api-burst=200", "--profiling=false",
            ),
            partial(healthz, 10257, "https"),
        ),
        Daemon(
            "kube-scheduler",
            command(
                "kube-scheduler", f"--kubeconfig={config}/kube-scheduler.kubeconfig", "--bind-address=127.0.0.1", "--leader-elect=false",
                "--profiling=false",
            ),
            partial(healthz, 10259, "https"),
        ),
        Daemon(
            "kubelet",
            command(
                "kubelet", f"--config={config}/kubelet.yaml", f"--kubeconfig={config}/kubelet.kubeconfig",
                f"--hostname-override={NODE_NAME}", f"--node-ip={NODE_IP}", f"--root-dir={layout.state}/kubelet",
            ),
            node_ready,
        ),
        Daemon("kube-proxy", command("kube-proxy", f"--config={config}/kube-proxy.yaml"), partial(healthz, 10256)),
        Daemon(
            "local-path-provisioner",
            command(
                "local-path-provisioner", "start", f"--config={config}/local-path.json", f"--helper-pod-file={config}/helper-pod.yaml",
                f"--kubeconfig={config}/local-path-provisioner.kubeconfig", "--namespace=local-path-storage",
            ),
            lambda: True,
        ),
    ]  # fmt: skip
    return {daemon.name: daemon for daemon in listed}


def fingerprint(config: Mapping[Path, str], daemons_: Mapping[str, Daemon]) -> str:
    """Changes when a running cluster could not be what this version of the test bed would start."""
    digest = hashlib.sha256(json.dumps([SUBJECTS, SERVING_NAMES], sort_keys=True, default=dict).encode())
    for path, text in sorted(config.items()):
        if path.name != "resolv.conf":
            digest.update(f"{path}\0{text}\0".encode())
    for name in START_ORDER:
        digest.update(repr(daemons_[name].args).encode())
    return digest.hexdigest()[:16]
