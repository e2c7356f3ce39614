"""Several processes, weights cut up among them, and where the time goes."""
