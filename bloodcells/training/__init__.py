"""What a training loop needs: batches, optimizers, devices, checkpoints, processes."""
