"""Does synthetic data help a detector? Exploration, baselines, arms of equal training, verdict and gate."""
