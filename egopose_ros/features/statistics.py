"""What published weights expect of their images."""

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""mean and standard deviation of R, G, B in 0..255, by which images are normalised"""
