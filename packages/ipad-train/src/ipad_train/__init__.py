"""Training, evaluation and reports for IPAD, from one CPU to many GPUs."""
