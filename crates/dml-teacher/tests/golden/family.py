"""Small models of the BERT family in sentence-transformers' layouts, and their vectors. Run: python family.py

Writes family/<name>/ and family/vectors.json; needs torch, transformers, sentence-transformers and safetensors.
"""
import json
import pathlib
import shutil

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (BertConfig, BertModel, DistilBertConfig, DistilBertModel, MPNetConfig, MPNetModel,
                          PreTrainedTokenizerFast, RobertaConfig, RobertaModel)

folder = pathlib.Path(__file__).parent / "family"
words = ["a", "dog", "cat", "runs", "sleeps", "the", "on", "grass"]
sentences = ["a dog runs", "A CAT sleeps on the grass", "the", "a dog runs on the grass on the grass on the grass", "a bird sleeps"]
sizes = dict(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12, max_position_embeddings=16)


def tokenizer(special, begin, end, pad, unknown, longest):
    vocabulary = {word: i for i, word in enumerate(special + words)}
    t = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    t.normalizer, t.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    pair = [(begin, vocabulary[begin]), (end, vocabulary[end])]
    t.post_processor = processors.TemplateProcessing(single=f"{begin} $A {end}", special_tokens=pair)
    return PreTrainedTokenizerFast(tokenizer_object=t, unk_token=unknown, pad_token=pad, cls_token=begin, sep_token=end,
                                   model_max_length=longest)


def make(name, network, tokens, after):
    torch.manual_seed(len(name))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    plain = folder / "plain"
    network.save_pretrained(plain)
    tokens.save_pretrained(plain)
    model = SentenceTransformer(modules=[Transformer(str(plain)), *after])
    model.save(str(folder / name), create_model_card=False)
    shutil.rmtree(plain)
    return model.eval()


def vectors(name):
    """By the folder as it is, so that what was changed in it counts."""
    model = SentenceTransformer(str(folder / name), device="cpu")
    return model.encode(sentences, normalize_embeddings=True).tolist()


torch.manual_seed(0)
shutil.rmtree(folder, ignore_errors=True)
bert = tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "[CLS]", "[SEP]", "[PAD]", "[UNK]", 9)
roberta = tokenizer(["<s>", "<pad>", "</s>", "<unk>"], "<s>", "</s>", "<pad>", "<unk>", 10**30)

# First token, a fully connected layer; the length is in tokenizer_config.json.
make("bert", BertModel(BertConfig(vocab_size=12, **sizes)), bert,
     [Pooling(8, pooling_mode="cls"), Dense(8, 5), Normalize()])
# Two poolings side by side, no Normalize; the layout of older versions, with flags and sentence_bert_config.json.
make("distilbert", DistilBertModel(DistilBertConfig(vocab_size=12, dim=8, n_layers=2, n_heads=2, hidden_dim=12,
                                                    max_position_embeddings=16)), bert, [Pooling(8)])
old = folder / "distilbert"
flags = {"word_embedding_dimension": 8, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True,
         "pooling_mode_max_tokens": True, "pooling_mode_mean_sqrt_len_tokens": False}
(old / "1_Pooling/config.json").write_text(json.dumps(flags))
(old / "sentence_bert_config.json").write_text('{"max_seq_length": 7, "do_lower_case": false}')
make("roberta", RobertaModel(RobertaConfig(vocab_size=12, type_vocab_size=1, pad_token_id=1, **sizes)), roberta,
     [Pooling(8, pooling_mode="mean_sqrt_len_tokens"), Normalize()])
make("mpnet", MPNetModel(MPNetConfig(vocab_size=12, **(sizes | dict(max_position_embeddings=32)))), roberta, [Pooling(8), Normalize()])
out = {"sentences": sentences, "models": {name: vectors(name) for name in ["bert", "distilbert", "mpnet", "roberta"]}}
# The same weights in torch's own form, which is read where there is no other.
from safetensors.torch import load_file
torch.save(load_file(folder / "roberta/model.safetensors"), folder / "roberta/pytorch_model.bin")
(folder / "roberta/model.safetensors").unlink()
(folder / "vectors.json").write_text(json.dumps(out, indent=1) + "\n")
