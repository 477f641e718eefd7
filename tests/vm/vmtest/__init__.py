"""The Linux kernel as NVMe/TCP host and target in a small guest: what `tests/vm/run` runs."""
