"""What is certified: one file a task, with its training, models and data beside it."""
