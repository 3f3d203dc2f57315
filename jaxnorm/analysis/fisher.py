r"""The Fisher metric of a normalized generalized linear model, in closed form and by automatic differentiation.

The model has H outputs. Each y_i follows an exponential family with natural parameter z_i (the categorical family
takes all z together). Without normalization z = a + b with a = x W; with it z = g (a - mu) / s + b. The distance of two
models is ds^2 = KL ~ 1/2 d^T F d for a small change d of the parameters.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from jaxnorm._base.typing import Array, Float, PyTree
from jaxnorm.analysis.glm import (
    Family,
    GLMParams,
    Kind,
    check_shapes,
    effective_inputs,
    output_covariance,
    summed_inputs,
)


def fisher_metric(
    predict: Callable[[Any, Float[Array, "N I"]], Float[Array, "N H"]],
    params: PyTree,
    xs: Float[Array, "N I"],
    *,
    family: Family = "gaussian",
    dispersion: float = 1.0,
) -> Float[Array, "D D"]:
    r"""Computes the Fisher metric of any model, by automatic differentiation.

    .. math:: F = \frac1{\phi^2} E_x\Bigl[ \frac{\partial z}{\partial \theta}^T \mathrm{Cov}[y | x]
       \frac{\partial z}{\partial \theta} \Bigr]

    Args:
      predict: ``(params, xs) -> z``, the natural parameters of the outputs.
      params: the weights, any tree.
      xs: the N cases over which the expectation is taken.
      family: the distribution of the outputs.
      dispersion: :math:`\phi`, the variance of Gaussian outputs; 1 for the other families.

    Returns:
      A matrix over all D weights, in the order of ``jax.flatten_util.ravel_pytree``.

    Raises:
      ValueError: an unknown family, or a dispersion that does not fit it.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnorm import analysis
      >>> xs = jnp.array([[1.0, 2.0]])
      >>> analysis.fisher_metric(lambda kernel, xs: xs @ kernel, jnp.ones((2, 1)), xs).tolist()
      [[1.0, 2.0], [2.0, 4.0]]

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, eqs. 10 to 12.
    """
    flat, unravel = ravel_pytree(params)

    def predict_flat(theta: Array) -> Array:
        return predict(unravel(theta), xs)

    jacobian = jax.jacobian(predict_flat)(flat)
    covariance = output_covariance(predict_flat(flat), family=family, dispersion=dispersion)
    return jnp.einsum("nip,nij,njq->pq", jacobian, covariance, jacobian) / (len(xs) * dispersion**2)


def glm_fisher(
    params: GLMParams, xs: Float[Array, "N I"], *, family: Family = "gaussian", dispersion: float = 1.0
) -> Float[Array, "H I+1 H I+1"]:
    r"""Computes the Fisher metric of a generalized linear model without normalization.

    .. math:: F = E_x\Bigl[ \frac{\mathrm{Cov}[y | x]}{\phi^2} \otimes
       \begin{pmatrix} x x^T & x \\ x^T & 1 \end{pmatrix} \Bigr]

    Args:
      params: ``GLMParams(kernel, bias)``.
      xs: the N cases over which the expectation is taken.
      family: the distribution of the outputs.
      dispersion: :math:`\phi`, the variance of Gaussian outputs; 1 for the other families.

    Returns:
      Blocks (i, :, j, :) over the parameters :math:`(w_i, b_i)` of two outputs.

    Raises:
      ValueError: there is a gain, shapes do not fit, or the family or dispersion is wrong.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnorm import analysis
      >>> params = analysis.GLMParams(jnp.ones((1, 1)), jnp.zeros(1))
      >>> analysis.glm_fisher(params, jnp.array([[3.0]])).reshape(2, 2).tolist()
      [[9.0, 3.0], [3.0, 1.0]]

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, eq. 11.
    """
    check_shapes("glm_fisher", params, xs, gain=False)
    z = xs @ params.kernel + params.bias[None]
    covariance = output_covariance(z, family=family, dispersion=dispersion)
    extended = jnp.concatenate([xs, jnp.ones_like(xs[:, :1])], axis=-1)
    return jnp.einsum("nij,np,nq->ipjq", covariance, extended, extended) / (len(xs) * dispersion**2)


def normalized_glm_fisher(
    params: GLMParams, xs: Float[Array, "N I"], *, norm: Kind, family: Family = "gaussian", dispersion: float = 1.0
) -> Float[Array, "H I+2 H I+2"]:
    r"""Computes the Fisher metric of a normalized generalized linear model, by the block formula of the paper.

    .. math::
       \bar F_{ij} = E_x\Bigl[ \frac{\mathrm{Cov}[y_i, y_j | x]}{\phi^2} u_i u_j^T \Bigr], \qquad
       u_i = \Bigl( \frac{g_i \chi_i}{s_i}, \; 1, \; \frac{a_i - \mu_i}{s_i} \Bigr)

    over the parameters :math:`(w_i, b_i, g_i)`, with :math:`\chi` of :func:`effective_inputs`. It is exact for weight
    and batch normalization. In layer normalization the statistics of an output depend on the weights of all outputs.
    The formula omits this; :func:`layer_norm_glm_fisher` includes it.

    Args:
      params: ``GLMParams(kernel, bias, gain)``.
      xs: N cases: the expectation, and the statistics of batch normalization, are over them.
      norm: weight, batch or layer normalization, with no epsilon.
      family: the distribution of the outputs.
      dispersion: :math:`\phi`, the variance of Gaussian outputs; 1 for the other families.

    Returns:
      Blocks (i, :, j, :) over :math:`(w_i, b_i, g_i)` of two outputs; ``[i, :I, j, :I]`` is that of the weights.

    Raises:
      ValueError: there is no gain, shapes do not fit, or a word or the dispersion is wrong.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnorm import analysis
      >>> xs = jnp.array([[1.0, 2.0], [3.0, 1.0]])
      >>> def curvature(length):
      ...     params = analysis.GLMParams(jnp.array([[length], [0.0]]), jnp.zeros(1), jnp.ones(1))
      ...     return float(analysis.normalized_glm_fisher(params, xs, norm="weight")[0, 1, 0, 1])
      >>> curvature(1.0), curvature(2.0)  # twice as long weights learn as if at a quarter of the rate
      (2.5, 0.625)

    Notes:
      The implicit reduction of the learning rate: if :math:`w_i` doubles, so does :math:`s_i`, and the output does not
      change. The block (i, i) of the weights falls to a quarter, the blocks with other outputs to a half. (The paper's
      text says a half of the curvature along :math:`w_i`.)

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, eqs. 12 and 13, section 5.2.2.
    """
    where = "normalized_glm_fisher"
    gain = check_shapes(where, params, xs, gain=True)
    hat, inverse = summed_inputs(where, params.kernel, xs, norm)
    covariance = output_covariance(hat * gain + params.bias[None], family=family, dispersion=dispersion)
    to_weights = effective_inputs(params.kernel, xs, norm=norm) * (gain * inverse)[..., None]
    u = jnp.concatenate([to_weights, jnp.ones_like(hat)[..., None], hat[..., None]], axis=-1)
    return jnp.einsum("nij,nip,njq->ipjq", covariance, u, u) / (len(xs) * dispersion**2)


def layer_norm_glm_fisher(
    params: GLMParams, xs: Float[Array, "N I"], *, family: Family = "gaussian", dispersion: float = 1.0
) -> Float[Array, "H I+2 H I+2"]:
    r"""Computes the exact Fisher metric of a layer-normalized generalized linear model.

    .. math::
       F = E_x\Bigl[ \frac{J^T \mathrm{Cov}[y | x] J}{\phi^2} \otimes x x^T \Bigr], \qquad
       J = \mathrm{diag}(g) \frac1s \Bigl( I - \frac{1 1^T}{H} - \frac{\hat a \hat a^T}{H} \Bigr)

    for the weights, where J is the derivative of z with respect to a, and likewise with the unit vectors and
    :math:`\hat a_i` for biases and gains. Unlike the block formula of the paper (:func:`normalized_glm_fisher`), it
    includes the derivatives of the statistics with respect to the weights of all outputs.

    Args:
      params: ``GLMParams(kernel, bias, gain)``.
      xs: the N cases over which the expectation is taken.
      family: the distribution of the outputs.
      dispersion: :math:`\phi`, the variance of Gaussian outputs; 1 for the other families.

    Returns:
      Blocks (i, :, j, :) over :math:`(w_i, b_i, g_i)` of two outputs.

    Raises:
      ValueError: there is no gain, shapes do not fit, or the family or dispersion is wrong.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnorm import analysis
      >>> params = analysis.GLMParams(jnp.array([[1.0, 2.0, 4.0]]), jnp.zeros(3), jnp.ones(3))
      >>> exact = analysis.layer_norm_glm_fisher(params, jnp.array([[2.0]]))
      >>> weights = exact[:, 0, :, 0]  # with one input, shifting or scaling all its weights changes nothing
      >>> bool(jnp.allclose(weights @ jnp.stack([jnp.ones(3), params.kernel[0]], axis=1), 0.0, atol=1e-5))
      True

    Notes:
      If the summed inputs of a case are all equal, they count as normalized to zero.
    """
    where = "layer_norm_glm_fisher"
    gain = check_shapes(where, params, xs, gain=True)
    hat, inverse = summed_inputs(where, params.kernel, xs, "layer")
    outputs = params.kernel.shape[1]
    covariance = output_covariance(hat * gain + params.bias[None], family=family, dispersion=dispersion)
    eye = jnp.eye(outputs, dtype=hat.dtype)[None]
    between = eye - 1.0 / outputs - hat[:, :, None] * hat[:, None] / outputs
    jacobian = (gain * inverse)[..., None] * between  # of z by a: (N, H, H)
    to_weights = jacobian[..., None] * xs[:, None, None]
    to_bias = jnp.broadcast_to(eye, jacobian.shape)[..., None]
    u = jnp.concatenate([to_weights, to_bias, to_bias * hat[:, :, None, None]], axis=-1)
    return jnp.einsum("nkl,nkip,nljq->ipjq", covariance, u, u) / (len(xs) * dispersion**2)


def gain_metric(
    params: GLMParams,
    xs: Float[Array, "N I"],
    *,
    norm: Literal["none", "weight", "batch", "layer"],
    family: Family = "gaussian",
    dispersion: float = 1.0,
    unit_variance: bool = False,
) -> Float[Array, "H H"]:
    r"""Computes the metric along the gains: how far a model moves if only its gains change.

    .. math::
       ds^2 = \tfrac12 \delta_g^T G \delta_g, \qquad
       G_{ij} = \frac1{\phi^2} E_x\bigl[ \mathrm{Cov}[y_i, y_j | x] \, \hat a_i \hat a_j \bigr]

    with :math:`\hat a = (a - \mu) / s`. With ``norm="none"`` it is the metric of an ordinary model along the norms of
    its weights (a gain changes :math:`w_i` along :math:`w_i / |w_i|`), where :math:`\hat a_i = a_i / |w_i|`. The
    metrics of batch and layer normalization do not change if x is rescaled; the others grow with :math:`|x|^2`.

    Args:
      params: ``GLMParams(kernel, bias, gain)``, without a gain for ``norm="none"``.
      xs: N cases: the expectation, and the statistics of batch normalization, are over them.
      norm: weight, batch or layer normalization, or none.
      family: the distribution of the outputs.
      dispersion: :math:`\phi`, the variance of Gaussian outputs; 1 for the other families.
      unit_variance: for batch normalization, whether to use the formula as printed in the paper, with one in place of
        :math:`\hat a_i \hat a_j`: exact on the diagonal if the covariance does not depend on x (Gaussian outputs).

    Returns:
      The matrix G.

    Raises:
      ValueError: the gain is missing or must be None, shapes do not fit, ``unit_variance`` comes without batch
        normalization, or a word or the dispersion is wrong.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxnorm import analysis
      >>> params = analysis.GLMParams(jnp.array([[1.0, 2.0, 4.0]]), jnp.zeros(3), jnp.ones(3))
      >>> small, large = (analysis.gain_metric(params, x * jnp.ones((1, 1)), norm="layer") for x in (1.0, 100.0))
      >>> bool(jnp.allclose(small, large))
      True

    Reference:
      J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization", 2016, arXiv:1607.06450, section 5.2.2 and eq. 14.
    """
    where = "gain_metric"
    gain = check_shapes(where, params, xs, gain=norm != "none")
    if unit_variance and norm != "batch":
        raise ValueError(f"{where}: unit_variance=True is a formula for norm='batch', got norm={norm!r}. Leave it out.")
    if norm == "none":
        hat, _ = summed_inputs(where, params.kernel, xs, "weight")
        z = xs @ params.kernel + params.bias[None]
    else:
        hat, _ = summed_inputs(where, params.kernel, xs, norm)
        z = hat * gain + params.bias[None]
    covariance = output_covariance(z, family=family, dispersion=dispersion)
    if unit_variance:
        hat = jnp.ones_like(hat)
    return jnp.einsum("nij,ni,nj->ij", covariance, hat, hat) / (len(xs) * dispersion**2)
