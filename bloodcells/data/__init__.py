"""Images: BloodMNIST, its folds, generated and corrupted ones, and those of users."""
