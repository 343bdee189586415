"""Sources, transforms, augmentations and batches of images."""
