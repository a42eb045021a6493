"""The door: commands, their arguments, and what they print."""
