"""One job, four ways to run it: local processes, GKE JobSet, Cloud TPU VMs, Slurm."""
