"""The improved residual networks of face recognition (ArcFace, Deng et al. 2019, section 3.2)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

DEPTHS: dict[str, tuple[int, int, int, int]] = {
    "iresnet18": (2, 2, 2, 2),
    "iresnet34": (3, 4, 6, 3),
    "iresnet50": (3, 4, 14, 3),
    "iresnet100": (3, 13, 30, 3),
    "iresnet152": (3, 8, 36, 3),
}
_WIDTHS = (64, 128, 256, 512)
_EPS = 1e-5


class _Block(nn.Module):
    """BN-Conv-BN-PReLU-Conv-BN with the stride on the second convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(inputs, eps=_EPS),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs, eps=_EPS),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs, eps=_EPS),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs, eps=_EPS)
            )

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.body(images) + self.shortcut(images))


def iresnet(name: str, channels: int) -> nn.Sequential:
    """Build `iresnet18`, `iresnet34`, `iresnet50` or `iresnet100`.

    Returns:
        A network from (B, channels, H, W) to (B, 512 · H/16 · W/16), made for 112 × 112 images.
    """
    layers: list[nn.Module] = [
        nn.Conv2d(channels, _WIDTHS[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(_WIDTHS[0], eps=_EPS),
        nn.PReLU(_WIDTHS[0]),
    ]
    inputs = _WIDTHS[0]
    for width, depth in zip(_WIDTHS, DEPTHS[name], strict=True):
        for index in range(depth):
            layers.append(_Block(inputs, width, stride=2 if index == 0 else 1))
            inputs = width
    layers += [nn.BatchNorm2d(inputs, eps=_EPS), nn.Flatten()]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.1)
    return network
