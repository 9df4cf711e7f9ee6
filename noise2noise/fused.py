"""The same network in less arithmetic, for training and restoring; model.py stays Table 1.

In the decoder, a 3x3 convolution follows nearest upsampling and a concatenation. Upsampling
by two repeats every pixel, so nine products per output pixel are only four different ones:
upsampling and convolution together are a transposed convolution of stride 2 whose 4x4 kernel
is the 3x3 kernel summed over 2x2 shifts. And the convolution of a concatenation is the sum of
the two convolutions. That saves a quarter of the whole network's arithmetic, and the copies.
"""

import numpy as np

from noise2noise.backend import keras

ops = keras.ops

# Each row of a 4x4 kernel, turned round, is the sum of those rows of the 3x3 one that meet it.
_ONE_AXIS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], np.float32)
SUMS = np.kron(_ONE_AXIS, _ONE_AXIS)  # (16, 9)


class UpsampledConvolution(keras.layers.Layer):
    """`convolution(concatenate(upsample(x), skip))` in one, with that layer's own weights.

    Parameters
    ----------
    convolution : keras.layers.Conv2D
        Built: 3x3, padding "same".
    """

    def __init__(self, convolution: keras.layers.Conv2D):
        # float32, so that the kernel's rows are summed before they are rounded to bfloat16.
        super().__init__(name=convolution.name, dtype="float32", autocast=False)
        self.convolution = convolution

    def call(self, x, skip):
        kernel = ops.convert_to_tensor(self.convolution.kernel)
        channels, filters = x.shape[-1], self.convolution.filters
        first, second = ops.split(kernel, [channels], axis=2)
        # One matrix product: slices of a kernel and their gradients take longer than the layer.
        summed = ops.matmul(SUMS, ops.reshape(first, (9, channels * filters)))
        transposed = ops.transpose(ops.reshape(summed, (4, 4, channels, filters)), (0, 1, 3, 2))
        skip = ops.cast(skip, x.dtype)
        y = ops.conv_transpose(x, ops.cast(transposed, x.dtype), strides=2, padding="same")
        y += ops.conv(skip, ops.cast(second, x.dtype), padding="same")
        return self.convolution.activation(y + ops.cast(self.convolution.bias, x.dtype))

    def compute_output_shape(self, x_shape, skip_shape):
        return (*skip_shape[:-1], self.convolution.filters)


def fuse(model: keras.Model) -> keras.Model:
    """Return a model that computes what the U-Net `model` does, faster, and shares its weights.

    Equal up to rounding (2e-5 in float32). Train or call either; save `model`, whose layers
    are Keras' own, so that its file needs no code.
    """
    layers = keras.layers
    by_output = {id(layer.output): layer for layer in model.layers}
    made = {id(model.input): model.input}  # the fused model's tensor for each of the model's
    for layer in model.layers[1:]:
        if isinstance(layer, layers.UpSampling2D | layers.Concatenate):
            continue
        source = by_output[id(layer.input)]
        if isinstance(source, layers.Concatenate):
            upsampled, skip = source.input
            small = by_output[id(upsampled)].input
            y = UpsampledConvolution(layer)(made[id(small)], made[id(skip)])
        else:
            y = layer(made[id(layer.input)])
        made[id(layer.output)] = y
    return keras.Model(model.input, made[id(model.output)], name=model.name)
