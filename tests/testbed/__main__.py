"""Command line: `python -m testbed setup|up|ready|down|images|tool|env|status|leftovers`.

Exit codes: 0 done; 1 failed, or not (fully) running, or something is left; 2 the machine lacks something;
3 the cluster of another checkout is running.
"""

from __future__ import annotations

import argparse
import sys

from testbed import clients, cluster, golang, holder, images, python_environment, snapshot
from testbed.console import print_failure
from testbed.layout import KAFKA_BOOTSTRAP, Layout
from testbed.shell import TestbedError


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="testbed", description="One-node Kubernetes with Kafka for tests.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="install the Python environment .venv")
    commands.add_parser("up", help="start the cluster, or repair it; returns when Kafka answers")
    commands.add_parser("ready", help="setup, up and images side by side")
    commands.add_parser("down", help="stop the cluster and remove everything of it except the logs")
    build = commands.add_parser("images", help="build images and load them into the cluster")
    build.add_argument("--only", nargs="+", choices=sorted(images.IMAGES), default=list(images.PRODUCT_IMAGES), metavar="NAME")
    tool = commands.add_parser("tool", help="print the path of one of the cluster's programs, such as helm; builds it if need be")
    tool.add_argument("name", choices=sorted({*clients.CLIENTS, *golang.CLUSTER_PROGRAMS}), metavar="NAME")
    commands.add_parser("env", help="print the shell exports for kubectl and helm")
    commands.add_parser("status", help="say what runs; exit code 0 when everything does")
    commands.add_parser("leftovers", help="list what a stopped cluster left on the machine; exit code 0 when nothing")
    return parser.parse_args()


def _print_env(layout: Layout) -> None:
    print(f"export KUBECONFIG={layout.kubeconfig}")
    print(f"export PATH={layout.bin}:$PATH")
    print(f"export TESTBED_KAFKA={KAFKA_BOOTSTRAP}")
    for name, reference in images.read_references(layout).items():
        print(f"export TESTBED_IMAGE_{name.upper()}={reference}")


def _print_leftovers(layout: Layout) -> int:
    left = snapshot.leftovers(holder.read_before(layout), layout.state)
    print("\n".join(left) if left else "nothing is left")
    return 1 if left else 0


def main() -> int:
    arguments = _arguments()
    layout = Layout.of_this_checkout()
    try:
        match arguments.command:
            case "setup":
                python_environment.ensure(layout)
            case "up":
                cluster.up(layout)
            case "ready":
                cluster.make_ready(layout)
            case "down":
                cluster.down(layout)
            case "images":
                for name, reference in cluster.load_images(layout, arguments.only).items():
                    print(f"{name} {reference}")
            case "tool":
                ensure = clients.ensure_clients if arguments.name in clients.CLIENTS else golang.ensure_binaries
                print(ensure(layout, {arguments.name})[arguments.name])
            case "env":
                _print_env(layout)
            case "status":
                return 0 if cluster.status(layout) else 1
            case _:
                return _print_leftovers(layout)
    except TestbedError as error:
        print_failure(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


sys.exit(main())
