"""The claims, a file each, in the order of the table."""

import importlib

from experiments.harness.claim import Claim

NAMES = (
    "mnist",
    "reader",
    "skip_thought",
    "order_embeddings",
    "draw",
    "handwriting",
    "permuted_mnist",
    "character_ptb",
    "glinskis",
    "laurent",
    "norm_statistics",
    "low_precision",
    "weight_decay",
    "bounded_weight_norm",
    "relatives",
    "invariances",
    "learning_rates",
)


def claim_named(name: str) -> Claim:
    """The claim of a file."""
    claim: Claim = importlib.import_module(f"experiments.claims.{name}").CLAIM
    return claim
