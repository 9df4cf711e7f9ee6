"""How the U-Net learns from single exposures: Neighbor2Neighbor's loss (Huang et al., CVPR 2021).

Of each cell of 2 x 2 pixels two neighbours are drawn: they make two pictures of half the size,
g1(y) and g2(y) of the exposure y, whose noise is independent. But their scenes differ a little,
and a network f that turns one into the other learns to blur that difference away. What it should
not learn is how f(y), the whole exposure restored, differs between the same pixels. The loss is

    (f(g1(y)) - g2(y))^2 + gamma (f(g1(y)) - g2(y) - (g1(f(y)) - g2(f(y))))^2,

the paper's equation 6, f(y) without gradient. On grey 12-bit pictures the second term is worth
0.4 dB after as many steps, which take nearly twice as long (results/README.md). It is squared
whichever loss the first term has.
"""

import numpy as np

from noise2noise.backend import keras
from noise2noise.pairs import NEIGHBOURS

ops = keras.ops
GAMMA = 1.0
# For each of the pairs that may be drawn, which of a cell's four pixels its first and second are.
FIRST, SECOND = np.eye(4, dtype=np.float32)[NEIGHBOURS.T]


def sub_sample(images, chosen):
    """Return g1 and g2 of images.

    Parameters
    ----------
    images : float (batch, 2 height, 2 width, channels)
    chosen : float (batch, height, width)
        Numbers of pairs in `pairs.NEIGHBOURS`.

    Returns
    -------
    two float (batch, height, width, channels)
    """
    _, height, width = ops.shape(chosen)
    channels = images.shape[-1]
    cells = ops.reshape(images, (-1, height, 2, width, 2, channels))
    cells = ops.reshape(ops.transpose(cells, (0, 1, 3, 2, 4, 5)), (-1, height, width, 4, channels))
    places = ops.cast(chosen, "int32")
    return tuple(
        ops.sum(cells * ops.expand_dims(ops.take(which, places, axis=0), -1), axis=3)
        for which in (FIRST, SECOND)
    )


class NeighbourModel(keras.Model):
    """Trains a U-Net, whose weights are its own: (exposure, chosen) to g1's restoration."""

    def __init__(self, unet: keras.Model):
        super().__init__(name=unet.name, dtype="float32")
        self.unet = unet
        self._squared = keras.losses.MeanSquaredError()  # shared by devices as the first term is
        self.built = True

    @property
    def output_shape(self):
        return self.unet.output_shape

    def call(self, x):
        return self.unet(sub_sample(*x)[0])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of g2(y) and f(g1(y)); in training with the second term."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        exposure, chosen = x
        restored = ops.cast(ops.stop_gradient(self.unet(exposure)), "float32")
        first, second = sub_sample(restored, chosen)
        return loss + GAMMA * self._squared(y + first - second, y_pred)
