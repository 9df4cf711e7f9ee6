"""Muon for the hidden convolutions, Adam for the rest (Jordan et al. 2024).

Adam scales each weight's step by itself. Muon takes a kernel as a matrix, from the inputs of a
position to its outputs, and makes its step orthogonal, so that all directions are learned alike.
Keras' own Muon does so for dense layers only. At equal time it ends ahead of Adam: results/.
"""

from noise2noise.backend import keras

ops = keras.ops


class Muon(keras.optimizers.Muon):
    """Keras' Muon, for kernels of convolutions between hidden layers too.

    The first and the last convolution, whose inputs or outputs are colours, and the biases take
    Adam's steps. The learning rate is the same for both: a Muon step is scaled to the size of an
    Adam step (`rms_rate`, Liu et al. 2025).

    Parameters
    ----------
    learning_rate : float or keras.optimizers.schedules.LearningRateSchedule
    beta_1, beta_2 : float
        Adam's.
    **options
        Of `keras.optimizers.Muon`. There is no weight decay unless it is asked for.
    """

    def __init__(self, learning_rate=1e-3, beta_1=0.9, beta_2=0.99, **options):
        betas = {"adam_beta_1": beta_1, "adam_beta_2": beta_2}
        super().__init__(
            learning_rate, **{"adam_weight_decay": None, "weight_decay": None} | betas | options
        )

    def _should_use_adamw(self, variable):
        return len(variable.shape) != 4 or min(variable.shape[2:]) <= 4

    def _muon_update_step(self, gradient, variable, learning_rate, momentum):
        self.assign(momentum, ops.add(gradient, ops.multiply(momentum, self.momentum)))
        step = ops.add(gradient, ops.multiply(momentum, self.momentum))  # Nesterov's
        matrix = ops.reshape(step, (-1, variable.shape[3]))
        matrix = self.orthogonal(matrix)
        step = ops.reshape(self.lr_adjust(matrix), variable.shape)
        self.assign_sub(variable, ops.multiply(step, ops.cast(learning_rate, variable.dtype)))

    def orthogonal(self, matrix):
        """Return about the nearest matrix whose singular values are all 1, of (rows, columns).

        Keras' iteration, Newton and Schulz's X <- (a + b X X' + c (X X')^2) X, is a polynomial in
        X X' times the X that it begins with. Iterated in that small matrix alone it takes a third
        of the time (6 ms of a step's 55, where Keras' took 17).
        """
        rows, columns = matrix.shape
        matrix = matrix / (ops.norm(matrix) + 1e-7)
        transposed = ops.transpose(matrix)
        gram = matrix @ transposed if rows < columns else transposed @ matrix
        product = identity = ops.eye(min(rows, columns), dtype=matrix.dtype)
        for _ in range(self.ns_steps):
            factor = self.muon_a * identity + (self.muon_b * identity + self.muon_c * gram) @ gram
            product = factor @ product
            gram = factor @ gram @ factor
        return product @ matrix if rows < columns else matrix @ product
