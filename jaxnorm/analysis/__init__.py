"""What normalization does, measured and in closed form: invariances, Fisher metrics, activations through time."""

from jaxnorm.analysis.invariances import Invariances as Invariances
from jaxnorm.analysis.invariances import PerChange as PerChange
from jaxnorm.analysis.invariances import invariance_table as invariance_table
from jaxnorm.analysis.invariances import invariances as invariances
