"""What the commands share: how they end, the files that they write, the models that they look for."""
