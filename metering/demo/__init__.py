"""The demonstration: real traffic, a real pipeline, a bill, and an account that adds up."""
