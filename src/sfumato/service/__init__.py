"""The HTTP application: segments what is sent to it, and shows it."""
