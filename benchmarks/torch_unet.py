"""The same network in PyTorch, to measure against: Table 1, with the Keras model's weights.

Not part of the project: `pip install torch` to run the benchmarks that use it.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class TorchUNet(nn.Module):
    """(batch, 3, height, width) to the same; weights of `build_unet()` in its order."""

    def __init__(self, weights: list[np.ndarray]):
        super().__init__()
        self.convolutions = nn.ModuleList()
        for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
            convolution = nn.Conv2d(*kernel.shape[2:], 3, padding=1)
            convolution.weight.data = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
            convolution.bias.data = torch.from_numpy(bias.copy())
            self.convolutions.append(convolution)

    def forward(self, x):
        convolutions = iter(self.convolutions)

        def activated(x):
            return functional.leaky_relu(next(convolutions)(x), 0.1)

        skips = [x]
        x = activated(x)
        for _ in range(5):
            x = functional.max_pool2d(activated(x), 2)
            skips.append(x)
        x = activated(x)
        skips.pop()
        while skips:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = activated(activated(torch.cat([x, skips.pop()], 1)))
        return next(convolutions)(x)


class Restorer:
    """A TorchUNet behind what `restore` asks of a Keras model."""

    output_shape = (None, None, None, 3)

    def __init__(self, network, device: str, precision: str):
        self.network, self.device, self.precision = network, device, precision

    def predict_on_batch(self, x: np.ndarray) -> np.ndarray:
        x = as_tensor(x, self.network, self.device)
        with torch.inference_mode(), autocast(self.device, self.precision):
            return self.network(x).permute(0, 2, 3, 1).float().cpu().numpy()


def as_tensor(array: np.ndarray, network, device: str):
    """Bring a batch, channels last, to the network's device and its order of memory."""
    x = torch.as_tensor(array, device=device).permute(0, 3, 1, 2)
    weight = next(network.parameters())
    return x if weight.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


def autocast(device: str, precision: str):
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16")


def trainer(network, device: str, precision: str, learning_rate: float = 1e-4):
    """Return what makes one training step of a batch (inputs, targets), NumPy's or PyTorch's."""
    options = {"betas": (0.9, 0.99), "eps": 1e-7, "fused": device == "cuda"}
    optimizer = torch.optim.Adam(network.parameters(), learning_rate, **options)

    def step(inputs, targets) -> None:
        x, y = (as_tensor(array, network, device) for array in (inputs, targets))
        with autocast(device, precision):
            loss = functional.mse_loss(network(x).float(), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
