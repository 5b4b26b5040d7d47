"""What a training does to its machine: CPU, memory, disk, network and GPUs, sampled on the counter `system`."""
