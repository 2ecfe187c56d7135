"""The worker of the image queue: renditions of uploaded pictures."""
