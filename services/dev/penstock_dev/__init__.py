"""What a first look needs and production does not."""
