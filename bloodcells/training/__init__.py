"""What a training loop calls: batches, optimizers, devices, checkpoints, processes."""
