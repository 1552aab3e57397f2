"""What a job logs -> its run in MLflow; model packages -> MLflow's registry, and back."""
