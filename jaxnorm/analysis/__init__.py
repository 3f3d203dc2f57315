"""Analyzes normalization, by measurement and in closed form: invariances, Fisher metrics, activations through time."""

from jaxnorm.analysis.activations import ActivationStatistics as ActivationStatistics
from jaxnorm.analysis.activations import activation_statistics as activation_statistics
from jaxnorm.analysis.activations import percentiles as percentiles
from jaxnorm.analysis.fisher import fisher_metric as fisher_metric
from jaxnorm.analysis.fisher import gain_metric as gain_metric
from jaxnorm.analysis.fisher import glm_fisher as glm_fisher
from jaxnorm.analysis.fisher import layer_norm_glm_fisher as layer_norm_glm_fisher
from jaxnorm.analysis.fisher import normalized_glm_fisher as normalized_glm_fisher
from jaxnorm.analysis.glm import GLMParams as GLMParams
from jaxnorm.analysis.glm import effective_inputs as effective_inputs
from jaxnorm.analysis.glm import output_covariance as output_covariance
from jaxnorm.analysis.invariances import Invariances as Invariances
from jaxnorm.analysis.invariances import PerChange as PerChange
from jaxnorm.analysis.invariances import invariance_table as invariance_table
from jaxnorm.analysis.invariances import invariances as invariances
from jaxnorm.analysis.plot import plot_activation_statistics as plot_activation_statistics
