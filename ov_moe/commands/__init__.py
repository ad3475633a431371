"""What the commands share: options, how they print and end, the files that they write, the models they look for."""
