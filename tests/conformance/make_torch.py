"""Ten architectures with random weights, each by PyTorch's dynamo exporter and by the TorchScript one.

usage: make_torch.py FOLDER: writes FOLDER/<name>_<exporter>/model.onnx, inputs, outputs of ONNX Runtime.
"""
import os
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

warnings.filterwarnings("ignore")
torch.manual_seed(0)
torch.backends.mha.set_fastpath_enabled(False)  # no operator of ONNX


class Separable(nn.Module):
    """CNN: depthwise blocks with squeeze and excitation, HardSwish, BatchNorm."""

    def __init__(self, width):
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width),
                                    nn.Hardswish())
        self.depth = nn.Sequential(nn.Conv2d(4 * width, 4 * width, 5, padding=2, groups=4 * width, bias=False),
                                   nn.BatchNorm2d(4 * width), nn.Hardswish())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(4 * width, width, 1), nn.ReLU(),
                                     nn.Conv2d(width, 4 * width, 1), nn.Hardsigmoid())
        self.project = nn.Sequential(nn.Conv2d(4 * width, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.depth(self.expand(x))
        return x + self.project(y * self.squeeze(y))


class Residual(nn.Module):
    """CNN: two residual blocks with a stride, max pooling, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 7, 2, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.a = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1))
        self.b = nn.Conv2d(16, 32, 1, 2)
        self.head = nn.Linear(32, 10)

    def forward(self, x):
        x = self.stem(x)
        x = F.relu(self.a(x) + self.b(x))
        return F.log_softmax(self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)), -1)


class Encoder(nn.Module):
    """Encoder: embeddings, two transformer layers, a padding mask."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(100, 32), nn.Embedding(64, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0, activation="gelu", batch_first=True)
        self.layers = nn.ModuleList([layer, nn.TransformerEncoderLayer(32, 4, 64, 0, batch_first=True,
                                                                       norm_first=True)])

    def forward(self, ids, mask):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=mask)
        return x.mean(1)


class Patches(nn.Module):
    """Encoder: a vision transformer with a class token."""

    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(3, 48, 8, 8)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 48)), nn.Parameter(torch.randn(1, 17, 48))
        self.norm, self.qkv, self.out = nn.LayerNorm(48), nn.Linear(48, 144), nn.Linear(48, 48)
        self.mlp = nn.Sequential(nn.LayerNorm(48), nn.Linear(48, 96), nn.GELU("tanh"), nn.Linear(96, 48))

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        q, k, v = self.qkv(self.norm(x)).reshape(x.shape[0], -1, 3, 6, 8).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        x = x + self.out(y)
        return (x + self.mlp(x))[:, 0]


class Decoder(nn.Module):
    """Decoder with a cache of keys and values: learned places, LayerNorm, GELU by tanh."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(50, 32), nn.Embedding(64, 32)
        self.a, self.b, self.qkv, self.out = nn.LayerNorm(32), nn.LayerNorm(32), nn.Linear(32, 96), nn.Linear(32, 32)
        self.mlp = nn.Sequential(nn.Linear(32, 64), nn.GELU("tanh"), nn.Linear(64, 32))

    def forward(self, ids, place, keys, values):
        x = self.words(ids) + self.places(place)
        q, k, v = self.qkv(self.a(x)).split(32, -1)
        q, k, v = (t.reshape(t.shape[0], t.shape[1], 4, 8).transpose(1, 2) for t in (q, k, v))
        keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        scores = q @ keys.transpose(-1, -2) / 8 ** 0.5
        n, m = scores.shape[-2:]
        scores = scores.masked_fill(torch.ones(n, m, dtype=torch.bool).triu(1 + m - n), float("-inf"))
        x = x + self.out((scores.softmax(-1) @ values).transpose(1, 2).reshape(x.shape))
        x = x + self.mlp(self.b(x))
        return x @ self.words.weight.t(), keys, values


class Rotary(nn.Module):
    """Decoder with a cache: RMSNorm, rotary places, grouped heads, SwiGLU."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.rand(32))
        self.q, self.kv, self.out = nn.Linear(32, 32, False), nn.Linear(32, 32, False), nn.Linear(32, 32, False)
        self.gate, self.up, self.down = nn.Linear(32, 64, False), nn.Linear(32, 64, False), nn.Linear(64, 32, False)

    def norm(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale

    def turn(self, x, place):
        angle = place[:, None].float() * (1e4 ** (-torch.arange(0, 4, device=x.device).float() / 4))
        cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
        return x * cos + torch.cat([-x[..., 4:], x[..., :4]], -1) * sin

    def forward(self, x, place, keys, values):
        h = self.norm(x)
        q = self.turn(self.q(h).reshape(x.shape[0], -1, 4, 8).transpose(1, 2), place)
        k, v = self.kv(h).reshape(x.shape[0], -1, 2, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        keys, values = torch.cat([keys, self.turn(k, place)], 2), torch.cat([values, v], 2)
        wide = [t.repeat_interleave(2, 1) for t in (keys, values)]
        y = F.scaled_dot_product_attention(q, *wide)
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        h = self.norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h)), keys, values


class Diffusion(nn.Module):
    """Diffusion: a residual block with a time embedding, and attention over pixels."""

    def __init__(self):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 32))
        self.a, self.b = nn.GroupNorm(4, 16), nn.GroupNorm(8, 32)
        self.x, self.y, self.skip = nn.Conv2d(16, 32, 3, 1, 1), nn.Conv2d(32, 32, 3, 1, 1), nn.Conv2d(16, 32, 1)
        self.norm, self.qkv, self.out = nn.GroupNorm(8, 32), nn.Conv2d(32, 96, 1), nn.Conv2d(32, 32, 1)

    def forward(self, x, step):
        angle = step[:, None].float() * torch.exp(-torch.arange(16, device=x.device).float() * 0.5756)
        time = self.time(torch.cat([angle.sin(), angle.cos()], -1))
        h = self.x(F.silu(self.a(x))) + time[:, :, None, None]
        x = self.skip(x) + self.y(F.silu(self.b(h)))
        q, k, v = self.qkv(self.norm(x)).flatten(2).chunk(3, 1)
        weights = torch.softmax(q.transpose(1, 2) @ k * 32 ** -0.5, -1)
        return x + self.out((v @ weights.transpose(1, 2)).reshape(x.shape))


class Upscale(nn.Module):
    """Diffusion: a decoder's step up, nearest and transposed, with GroupNorm."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 16, 3, 1, 1), nn.ConvTranspose2d(16, 8, 4, 2, 1)
        self.norm, self.out = nn.GroupNorm(4, 16), nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, z):
        x = self.a(F.interpolate(z, scale_factor=2.0, mode="nearest"))
        x = self.b(F.silu(self.norm(x)))
        return torch.tanh(self.out(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)))


class Recurrent(nn.Module):
    """Recurrent: two bidirectional layers of LSTM or GRU."""

    def __init__(self, kind):
        super().__init__()
        self.cell = kind(12, 16, 2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, x):
        return self.head(self.cell(x)[0])


def cases():
    ids = torch.randint(0, 50, (2, 3))
    place, cache = torch.arange(5, 8), torch.randn(2, 4, 5, 8)
    yield "cnn_separable", Separable(8), (torch.randn(1, 8, 14, 14),)
    yield "cnn_residual", Residual(), (torch.randn(2, 3, 32, 32),)
    yield "encoder_text", Encoder(), (torch.randint(0, 100, (2, 9)), torch.arange(9)[None] >= torch.tensor([[9], [6]]))
    yield "encoder_vision", Patches(), (torch.randn(2, 3, 32, 32),)
    yield "decoder_learned", Decoder(), (ids, place, cache, torch.randn(2, 4, 5, 8))
    yield "decoder_rotary", Rotary(), (torch.randn(2, 3, 32), place, torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8))
    yield "diffusion_block", Diffusion(), (torch.randn(2, 16, 8, 8), torch.tensor([3, 70]))
    yield "diffusion_upscale", Upscale(), (torch.randn(1, 8, 6, 5),)
    yield "recurrent_lstm", Recurrent(nn.LSTM), (torch.randn(2, 7, 12),)
    yield "recurrent_gru", Recurrent(nn.GRU), (torch.randn(2, 7, 12),)


def write(folder, model, inputs, is_dynamo):
    os.makedirs(folder)
    path = os.path.join(folder, "model.onnx")
    names = ["in%d" % i for i in range(len(inputs))]
    if is_dynamo:
        torch.onnx.export(model, inputs, path, dynamo=True, input_names=names, external_data=False, verbose=False)
    else:
        torch.onnx.export(model, inputs, path, dynamo=False, input_names=names, opset_version=17)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    values = dict(zip(names, (value.numpy() for value in inputs)))
    used = [value.name for value in session.get_inputs()]
    outputs = session.run(None, {name: values[name] for name in used})
    with open(os.path.join(folder, "inputs.txt"), "w") as file:
        file.write("".join(name + "\n" for name in used))
    with open(os.path.join(folder, "tolerance"), "w") as file:
        file.write("0.001 0.0001\n")
    for kind, arrays in (("input", [values[name] for name in used]), ("output", outputs)):
        for i, array in enumerate(arrays):
            np.save(os.path.join(folder, "%s_%d.npy" % (kind, i)), np.ascontiguousarray(array))


def main():
    n = 0
    for name, model, inputs in cases():
        for exporter in ("dynamo", "torchscript"):
            with torch.no_grad():
                write(os.path.join(sys.argv[1], name + "_" + exporter), model.eval(), inputs, exporter == "dynamo")
            n += 1
    print("%d exports by PyTorch %s, run by ONNX Runtime %s" % (n, torch.__version__, onnxruntime.__version__))


if __name__ == "__main__":
    main()
