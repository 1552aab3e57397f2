"""What a job does -> its run in MLflow; model packages -> MLflow's registry, and back."""
