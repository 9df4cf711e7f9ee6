"""The network of the paper: a U-Net of 991,203 weights, Table 1 of the report.

    python model.py              print Table 1, and the number of weights

The layers carry the table's names in lower case, so `model.get_layer("dec_conv1a")`
finds one. The module knows nothing of noise, data or training.
"""

import zipfile
from pathlib import Path

from noise2noise.backend import keras
from noise2noise.errors import ModelError

LEAKY_SLOPE = 0.1  # the paper, appendix A.1


def build_unet(input_channels: int = 3, output_channels: int = 3) -> keras.Model:
    """Build the U-Net of Table 1 (Lehtinen et al. 2018, appendix A.1, table 2).

    Every convolution is 3x3 with padding "same", followed by a leaky ReLU but for the
    last one, which is linear; pooling is 2x2 maximum, upsampling 2x2 nearest. Weights
    start from He's normal distribution, the last layer's from Glorot's, and biases at zero.

    Parameters
    ----------
    input_channels, output_channels : int
        The table's n and m: 3 for RGB.

    Returns
    -------
    keras.Model
        float (batch, height, width, n) -> float32 (batch, height, width, m), for any
        height and width that are multiples of 32, since five poolings halve them five times.
        Pixel values are meant to lie about [0, 1]; nothing is clipped.
    """

    layers = keras.layers

    def conv(x, filters, name):
        convolution = layers.Conv2D(
            filters,
            3,
            padding="same",
            activation=layers.LeakyReLU(negative_slope=LEAKY_SLOPE),
            kernel_initializer="he_normal",
            name=name,
        )
        return convolution(x)

    image = keras.Input((None, None, input_channels), name="input")
    x = conv(image, 48, "enc_conv0")
    skips = [image]
    for level in range(1, 6):
        x = conv(x, 48, f"enc_conv{level}")
        x = layers.MaxPooling2D(2, name=f"pool{level}")(x)
        skips.append(x)
    x = conv(x, 48, "enc_conv6")
    skips.pop()  # pool5 feeds enc_conv6 alone
    for level in range(5, 0, -1):
        x = layers.UpSampling2D(2, name=f"upsample{level}")(x)
        x = layers.Concatenate(name=f"concat{level}")([x, skips.pop()])
        first, second = (64, 32) if level == 1 else (96, 96)
        x = conv(x, first, f"dec_conv{level}a")
        x = conv(x, second, f"dec_conv{level}b")
    # In float32 under mixed precision too: bfloat16 has steps of 1/256 near 1.
    x = layers.Conv2D(output_channels, 3, padding="same", dtype="float32", name="dec_conv1c")(x)
    return keras.Model(image, x, name="noise2noise_unet")


def load_unet(path: Path) -> keras.Model:
    """Build the U-Net of Table 1 with the weights of a .keras file, in today's dtype policy.

    Keras' safe mode is on, so a file that carries code is refused; so is a damaged file and
    any other network, with a `ModelError` that names the file.
    """
    try:
        with zipfile.ZipFile(path):  # of a file that is none Keras says that it is not found
            stored = keras.saving.load_model(path, compile=False, safe_mode=True)
        weights = stored.get_weights()
        (*_, channels), (*_, made) = stored.input_shape, stored.output_shape
        model = build_unet(channels or 3, made or 3)
    except Exception as error:  # Keras lets through whatever zip, JSON and HDF5 raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise ModelError(f"{path} cannot be loaded as a model: {reason}") from None
    kinds = [[(type(layer), layer.name) for layer in net.layers] for net in (stored, model)]
    if kinds[0] != kinds[1] or [w.shape for w in weights] != [w.shape for w in model.weights]:
        raise ModelError(f"{path} is another network than this project's U-Net")
    model.set_weights(weights)
    return model


def start_from(model: keras.Model, start: keras.Model) -> None:
    """Give `model` the weights of `start`, with as many channels or, for a grey one, with three.

    The grey network is then what the one for colours is to pictures of three equal channels: the
    kernels that read the picture are summed over its channels, those that make it averaged, which
    is exact but for rounding. (From one channel to three there is no such way.)
    """
    weights = start.get_weights()
    before, after = start.output_shape[-1], model.output_shape[-1]
    if before > after:
        for i, (weight, variable) in enumerate(zip(weights, model.weights, strict=True)):
            if "dec_conv1c" in variable.path:
                weights[i] = weight.mean(-1, keepdims=True)
            elif weight.shape != variable.shape:  # the picture is the last of what is read
                others, picture = weight[:, :, :-before], weight[:, :, -before:]
                weights[i] = keras.ops.concatenate([others, picture.sum(2, keepdims=True)], 2)
    model.set_weights(weights)


def table1(model: keras.Model) -> str:
    """Return Table 1 of the report, read off `model`, one layer a line."""
    layers = keras.layers
    made_by = {id(layer.output): layer.name.upper() for layer in model.layers}
    symbolic = {"input": "n", "concat1": "96 + n", "dec_conv1c": "m"}
    lines = [f"{'NAME':<13}{'Nout':<8}FUNCTION"]
    for layer in model.layers:
        match layer:
            case layers.Conv2D():
                linear = layer.activation is keras.activations.linear
                function = "Convolution 3x3" + (", linear act." if linear else "")
            case layers.MaxPooling2D():
                function = "Maxpool 2x2"
            case layers.UpSampling2D():
                function = "Upsample 2x2"
            case layers.Concatenate():
                skip = made_by[id(layer.input[1])]
                function = f"Concatenate {skip if skip == 'INPUT' else 'output of ' + skip}"
            case _:
                function = ""
        channels = symbolic.get(layer.name, str(layer.output.shape[-1]))
        lines.append(f"{layer.name.upper():<13}{channels:<8}{function}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    model = build_unet()
    print(table1(model))
    print(f"\n{model.count_params():,} weights for n = m = 3")
