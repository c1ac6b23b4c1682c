"""Migrations: how the database came to be what it is. They never import models."""
