"""Basics that every room uses."""
