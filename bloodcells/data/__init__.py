"""Images: BloodMNIST and its folds, generated and corrupted images, and a user's own."""
