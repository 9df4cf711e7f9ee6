"""What the scripts at the top share, a module for each purpose: see the README's map."""
