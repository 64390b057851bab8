"""What a schedule's steps are worth in images, and which schedule to choose for it."""
