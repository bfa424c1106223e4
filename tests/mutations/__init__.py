"""Mutations: changes that break a promise on purpose, and the tests that must notice them."""
