"""The papers' claims, rerun: ``python -m experiments``. README.md beside this file says how."""
