"""The workloads of the comparison, as PyTorch modules, their inputs and JAX twins. Shapes are those of
common model parts; what is an input here is an input for every engine."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

import ocean


class Chain(nn.Module):
    def forward(self, x, g, b):
        y = x * g + b
        y = F.gelu(y) * torch.sigmoid(x)
        return torch.tanh(y) * 0.5 + x


class BiasGeluResidualNorm(nn.Module):
    def __init__(self, width=768):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.bias = nn.Parameter(torch.randn(width))

    def forward(self, x, r):
        return self.norm(F.gelu(x + self.bias) + r)


class Softmax(nn.Module):
    def forward(self, x):
        return torch.softmax(x * 0.125, -1)


class Matmul(nn.Module):
    def forward(self, a, b):
        return a @ b


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(),
                                    nn.Linear(512, 10))

    def forward(self, x):
        return self.layers(x)


class Attention(nn.Module):
    def forward(self, q, k, v):
        return F.scaled_dot_product_attention(q, k, v)


class Tiny(nn.Module):
    def forward(self, x):
        return torch.tanh(x * 2 + 1)


class Bert(nn.Module):
    """An encoder of BERT-base's sizes."""

    def __init__(self, layers=12, width=768, heads=12, inner=3072, vocabulary=30522, length=512):
        super().__init__()
        self.heads = heads
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleDict({"q": nn.Linear(width, width), "k": nn.Linear(width, width),
                           "v": nn.Linear(width, width), "o": nn.Linear(width, width),
                           "n1": nn.LayerNorm(width), "up": nn.Linear(width, inner),
                           "down": nn.Linear(inner, width), "n2": nn.LayerNorm(width)})
            for _ in range(layers))

    def forward(self, ids):
        batch, length = ids.shape
        h = self.norm(self.words(ids) + self.positions(torch.arange(length))[None])

        def split(t):
            return t.view(batch, length, self.heads, -1).transpose(1, 2)
        for layer in self.layers:
            a = F.scaled_dot_product_attention(split(layer["q"](h)), split(layer["k"](h)),
                                               split(layer["v"](h)))
            h = layer["n1"](h + layer["o"](a.transpose(1, 2).reshape(batch, length, -1)))
            h = layer["n2"](h + layer["down"](F.gelu(layer["up"](h))))
        return h


class UNet(nn.Module):
    """The layers of build_unet in models.c."""

    def __init__(self, widths=(32, 64, 128, 256), bottom=256):
        super().__init__()

        def two_convs(inputs, outputs):
            return nn.Sequential(*(layer for n in (inputs, outputs) for layer in (
                nn.Conv2d(n, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())))
        self.down = nn.ModuleList(two_convs(a, b) for a, b in zip((3, *widths), widths))
        self.bottom = two_convs(widths[-1], bottom)
        self.up = nn.ModuleList(two_convs(a + b, a) for a, b in zip(widths[::-1], (bottom, *widths[:0:-1])))
        self.last = nn.Conv2d(widths[0], 2, 1)

    def forward(self, x):
        skips = []
        for layer in self.down:
            skips.append(layer(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for layer in self.up:
            x = layer(torch.cat([skips.pop(), F.interpolate(x, scale_factor=2.0)], 1))
        return self.last(x)


def deep_mlp():
    widths = (784, 512, 512, 512, 512, 10)
    layers = [layer for a, b in zip(widths, widths[1:]) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def small_cnn():
    """The layers of build_train_cnn in train.c."""
    sizes = ((3, 32, 1), (32, 64, 2), (64, 64, 1), (64, 64, 2))
    layers = [layer for a, b, stride in sizes
              for layer in (nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10, bias=False))


def vision(name):
    def make():
        import torchvision
        return getattr(torchvision.models, name)(weights=None)
    return make


def normal(*dims):
    return lambda: torch.randn(*dims)


def normal_bf16(*dims):
    return lambda: torch.randn(*dims).bfloat16()


def tokens(*dims):
    return lambda: torch.randint(0, 30522, dims)


WORKLOADS = {
    "tiny_call": (Tiny, [normal(16)]),
    "chain_16M": (Chain, [normal(4096, 4096), normal(4096), normal(4096)]),
    "chain_256K": (Chain, [normal(256, 1024), normal(1024), normal(1024)]),
    "bias_gelu_res_ln_2048x768": (BiasGeluResidualNorm, [normal(2048, 768), normal(2048, 768)]),
    "softmax_4096x1024": (Softmax, [normal(4096, 1024)]),
    "matmul_f32_1024": (Matmul, [normal(1024, 1024), normal(1024, 1024)]),
    "matmul_f32_2048": (Matmul, [normal(2048, 2048), normal(2048, 2048)]),
    "matmul_bf16_2048": (Matmul, [normal_bf16(2048, 2048), normal_bf16(2048, 2048)]),
    "matmul_f32_m1_4096": (Matmul, [normal(1, 4096), normal(4096, 4096)]),
    "mlp_b1": (Mlp, [normal(1, 784)]),
    "mlp_b128": (Mlp, [normal(128, 784)]),
    "attention_8x12x512x64": (Attention, [normal(8, 12, 512, 64)] * 3),
    "resnet50_b1": (vision("resnet50"), [normal(1, 3, 224, 224)]),
    "resnet50_b8": (vision("resnet50"), [normal(8, 3, 224, 224)]),
    "mobilenetv2_b1": (vision("mobilenet_v2"), [normal(1, 3, 224, 224)]),
    "bert_base_b1_s128": (Bert, [tokens(1, 128)]),
    "bert_base_b8_s128": (Bert, [tokens(8, 128)]),
}


# Graphs of the C builder whose memory is compared.
BUILT = {"unet": (UNet, [normal(1, 3, 128, 128)]), "train_mlp": (deep_mlp, [normal(128, 784)]),
         "train_cnn": (small_cnn, [normal(128, 3, 32, 32)])}


# The rows of each precision mode; f32 by chains of fma is the default.
MODES = {
    "fma": [name for name in WORKLOADS if "bf16" not in name],
    "x6": ["matmul_f32_1024", "matmul_f32_2048"],
    "bf16": ["matmul_bf16_2048", "attention_8x12x512x64", "resnet50_b1", "bert_base_b1_s128",
             "bert_base_b8_s128"],
    "int8": ["matmul_i8_2048", "matmul_i8_2048_qdq", "resnet50_b1", "resnet50_b8", "bert_base_b1_s128"],
    "f64": list(ocean.ROWS),
}


def traced_twin(module):
    """A convolutional network in JAX, operation by operation as PyTorch traces it."""
    import jax
    import jax.numpy as jnp
    import torch.fx
    traced = torch.fx.symbolic_trace(module)
    layers = dict(traced.named_modules())

    def conv(layer, p, key, x):
        pad = [(n, n) for n in layer.padding]
        y = jax.lax.conv_general_dilated(x, p[key + ".weight"], layer.stride, pad,
                                         feature_group_count=layer.groups)
        return y if layer.bias is None else y + p[key + ".bias"][:, None, None]

    def norm(layer, p, key, x):
        scale = p[key + ".weight"] * jax.lax.rsqrt(p[key + ".running_var"] + layer.eps)
        return (x - p[key + ".running_mean"][:, None, None]) * scale[:, None, None] + p[
            key + ".bias"][:, None, None]

    def pool(layer, p, key, x):
        n, stride, pad = layer.kernel_size, layer.stride, layer.padding
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, n, n), (1, 1, stride, stride),
                                     ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rules = {
        nn.Conv2d: conv, nn.BatchNorm2d: norm, nn.MaxPool2d: pool,
        nn.ReLU: lambda layer, p, key, x: jax.nn.relu(x),
        nn.ReLU6: lambda layer, p, key, x: jnp.clip(x, 0, 6),
        nn.Dropout: lambda layer, p, key, x: x,
        nn.AdaptiveAvgPool2d: lambda layer, p, key, x: x.mean((2, 3), keepdims=True),
        nn.Linear: lambda layer, p, key, x: x @ p[key + ".weight"].T + p[key + ".bias"],
    }

    def adaptive_mean(x, size):
        return x.mean((2, 3), keepdims=True)
    functions = {"add": lambda a, b: a + b, "flatten": lambda x, start: x.reshape(x.shape[0], -1),
                 "adaptive_avg_pool2d": adaptive_mean}

    def run(p, *inputs):
        values, given = {}, iter(inputs)
        for node in traced.graph.nodes:
            operands = [values.get(a, a) if isinstance(a, torch.fx.Node) else a for a in node.args]
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "call_module":
                layer = layers[node.target]
                values[node] = rules[type(layer)](layer, p, node.target, *operands)
            elif node.op == "call_function":
                values[node] = functions[node.target.__name__](*operands)
            else:
                return operands[0]
        return None
    return run


def jax_function(name, module, arrays):
    """The same computation in JAX over NumPy arrays."""
    import jax
    import jax.numpy as jnp
    weights = {k: jnp.asarray(v.detach().numpy()) for k, v in module.state_dict().items()}

    def gelu(x):
        return jax.nn.gelu(x, approximate=False)

    def norm(x, key, p):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * p[key + ".weight"] + p[key + ".bias"]

    def linear(x, key, p):
        return x @ p[key + ".weight"].T + p[key + ".bias"]

    def attend(q, k, v):
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) / np.sqrt(q.shape[-1])
        return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, -1), v)

    def bert(p, ids):
        batch, length = ids.shape
        h = norm(p["words.weight"][ids] + p["positions.weight"][:length][None], "norm", p)

        def split(t):
            return t.reshape(batch, length, 12, -1).transpose(0, 2, 1, 3)
        for i in range(12):
            key = f"layers.{i}."
            a = attend(*(split(linear(h, key + n, p)) for n in "qkv"))
            a = a.transpose(0, 2, 1, 3).reshape(batch, length, -1)
            h = norm(h + linear(a, key + "o", p), key + "n1", p)
            h = norm(h + linear(gelu(linear(h, key + "up", p)), key + "down", p), key + "n2", p)
        return h

    def mlp(p, x):
        x = jax.nn.relu(linear(x, "layers.0", p))
        return linear(jax.nn.relu(linear(x, "layers.2", p)), "layers.4", p)
    twins = {
        "tiny_call": lambda p, x: jnp.tanh(x * 2 + 1),
        "chain": lambda p, x, g, b: jnp.tanh(gelu(x * g + b) * jax.nn.sigmoid(x)) * 0.5 + x,
        "bias": lambda p, x, r: norm(gelu(x + p["bias"]) + r, "norm", p),
        "softmax": lambda p, x: jax.nn.softmax(x * 0.125, -1),
        "matmul": lambda p, a, b: a @ b,
        "mlp": mlp,
        "attention": lambda p, q, k, v: attend(q, k, v),
        "bert": bert,
    }
    twin = next((f for key, f in twins.items() if name.startswith(key)), None) or traced_twin(module)
    compiled = jax.jit(twin)
    values = [jnp.asarray(a) for a in arrays]
    return lambda: jax.block_until_ready(compiled(weights, *values))
