"""Files on disk: whole or not at all, and code only from folders that nobody else can write."""
