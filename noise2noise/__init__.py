"""What the scripts at the top share, a room for each purpose: see the README's map."""
