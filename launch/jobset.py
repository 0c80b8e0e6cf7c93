"""GKE: a JobSet, one replicated job per slice or set of GPU nodes.

A lost host fails its Job; the JobSet then starts all of them again, up to `max_restarts`. A mistake
of the user (exit code 2) fails the JobSet at once.
"""

import argparse
import subprocess
from typing import Any

import yaml

from sentidistill_jax.errors import EXIT_USAGE
from sentidistill_jax.planner.topology import Topology

from .job import GPUS, GRACE_SECONDS, GpuNodes, Job

_PORT = 8476


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds `--namespace` and `--service_account`."""
    group = parser.add_argument_group("--backend=jobset")
    group.add_argument("--namespace", default="default")
    group.add_argument("--service_account", default="", help="of Kubernetes, for the buckets")


def submit(job: Job, flags: argparse.Namespace) -> int:
    """Hands the YAML to `kubectl apply`; returns its exit code."""
    command = ["kubectl", "apply", "--filename=-"]
    return subprocess.run(command, input=render(job, flags), text=True).returncode


def render(job: Job, flags: argparse.Namespace) -> str:
    """The YAML for `kubectl apply -f -`.

    Raises:
      ValueError: Without an image, or for hardware that GKE does not have.
    """
    hardware = job.hardware
    if isinstance(hardware, Topology):
        replicas, hosts = hardware.num_slices, hardware.hosts_per_slice
    elif isinstance(hardware, GpuNodes):
        replicas, hosts = 1, hardware.num_nodes
    else:
        raise ValueError("backend=jobset needs TPUs or GPUs; local:NxM is for backend=local.")
    template: dict[str, Any] = {"spec": _pod(job, hardware, flags.service_account)}
    if any(source.startswith("gs://") for source in job.storage.values()):
        annotations = {"gke-gcsfuse/volumes": "true"}
        template = {"metadata": {"annotations": annotations}, **template}
    jobset = {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "namespace": flags.namespace,
            # One slice to a node pool.
            "annotations": {
                "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
            },
        },
        "spec": {
            "failurePolicy": {
                "maxRestarts": job.max_restarts,
                "rules": [
                    {
                        "name": "mistake",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    },
                ],
            },
            "replicatedJobs": [
                {
                    "name": "workers",
                    "replicas": replicas,
                    "template": {
                        "spec": {
                            "parallelism": hosts,
                            "completions": hosts,
                            "completionMode": "Indexed",
                            "backoffLimit": 0,
                            "podFailurePolicy": {
                                "rules": [
                                    {
                                        "action": "FailJob",
                                        "onExitCodes": {
                                            "containerName": "sentidistill",
                                            "operator": "In",
                                            "values": [EXIT_USAGE],
                                        },
                                    }
                                ]
                            },
                            "template": template,
                        }
                    },
                }
            ],
        },
    }
    return yaml.safe_dump(jobset, sort_keys=False, width=100)


def _pod(job: Job, hardware: Topology | GpuNodes, service_account: str) -> dict[str, Any]:
    if isinstance(hardware, Topology):
        limits = {"google.com/tpu": min(hardware.chip.chips_per_host, hardware.chips_per_slice)}
        selector = {
            "cloud.google.com/gke-tpu-accelerator": hardware.chip.gke_accelerator,
            "cloud.google.com/gke-tpu-topology": hardware.slice_shape,
        }
    else:
        limits = {"nvidia.com/gpu": hardware.per_node}
        selector = {"cloud.google.com/gke-accelerator": GPUS[hardware.gpu]}
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "nodeSelector": selector,
        "containers": [_container(job, limits)],
    }
    if isinstance(hardware, GpuNodes):
        pod["tolerations"] = [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        ]
    if service_account:
        pod["serviceAccountName"] = service_account
    if job.storage:
        pod["volumes"] = [
            _volume(index, source) for index, source in enumerate(job.storage.values())
        ]
    return pod


def _container(job: Job, limits: dict[str, int]) -> dict[str, Any]:
    environment: list[dict[str, Any]] = [
        {"name": name, "value": value} for name, value in job.environment.items()
    ]
    if isinstance(job.hardware, GpuNodes):
        # On TPUs libtpu knows its hosts; GPU processes are told theirs.
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        environment += [
            {
                "name": "SENTIDISTILL_COORDINATOR",
                "value": f"{job.name}-workers-0-0.{job.name}:{_PORT}",
            },
            {"name": "SENTIDISTILL_NUM_PROCESSES", "value": str(job.hardware.num_nodes)},
            {
                "name": "SENTIDISTILL_PROCESS_ID",
                "valueFrom": {"fieldRef": {"fieldPath": index}},
            },
        ]
    for variable, reference in job.secrets.items():
        secret, separator, key = reference.partition("/")
        if not separator:
            raise ValueError(
                f"secret {variable}={reference!r} must be NAME/KEY of a Kubernetes secret."
            )
        environment.append(
            {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        )
    container: dict[str, Any] = {
        "name": "sentidistill",
        "image": job.need_image(),
        "command": list(job.command),
        "env": environment,
        "ports": [{"containerPort": _PORT}],
        "resources": {"limits": limits},
    }
    if job.storage:
        container["volumeMounts"] = [
            {"name": f"storage-{index}", "mountPath": path}
            for index, path in enumerate(job.storage)
        ]
    return container


def _volume(index: int, source: str) -> dict[str, Any]:
    name = f"storage-{index}"
    if not source.startswith("gs://"):
        return {"name": name, "hostPath": {"path": source}}
    return {
        "name": name,
        "csi": {
            "driver": "gcsfuse.csi.storage.gke.io",
            "volumeAttributes": {
                "bucketName": source.removeprefix("gs://"),
                "mountOptions": "implicit-dirs",
            },
        },
    }
