use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use sha2::{Digest, Sha256};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use crate::encoder::{check, hex, in_batches};
use crate::layout::{Dense, Layout};
use crate::network::Network;
use crate::pooling::Pooling;
use crate::{Result, SentenceEncoder, TeacherError, weights};

/// A sentence encoder of sentence-transformers: a transformer of the BERT family (BERT, DistilBERT, RoBERTa, XLM-RoBERTa,
/// MPNet), pooled over the sentence's tokens, perhaps a fully connected layer, length one.
///
/// Sentences lie one after the other in a batch, so that none is computed on padding; they do not see each other, and a
/// sentence's vector does not depend on the others (on other devices than the CPU but for rounding). Sentences longer than
/// the model's `max_seq_length` are cut there, as sentence-transformers does.
pub struct SentenceTransformer {
    name: String,
    dim: usize,
    fingerprint: String,
    lower_case: bool,
    prompt: String,
    tokenizer: Tokenizer,
    network: Network,
    pooling: Pooling,
    dense: Option<DenseLayer>,
    device: Device,
}

struct DenseLayer {
    /// (inputs, outputs)
    weight: Tensor,
    bias: Option<Tensor>,
    tanh: bool,
}

impl SentenceTransformer {
    /// Loads a model from its folder: `modules.json` and the configurations of its modules, `config.json`,
    /// `tokenizer.json`, and `model.safetensors` or `pytorch_model.bin`. Without `modules.json` the folder is a plain
    /// transformer, pooled by the mean; the length is that of `sentence_bert_config.json` or `tokenizer_config.json`, at
    /// most what the positions allow.
    ///
    /// # Errors
    /// If a file is missing or damaged, or if it asks for what is not implemented; the error names the file and that.
    pub fn from_dir(dir: &Path, device: &Device) -> Result<Self> {
        let path = dir.canonicalize().map_err(|source| TeacherError::Io { path: dir.into(), source })?;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        Self::load(dir, name, device)
    }

    /// Loads a model from the Hugging Face hub, such as [`ALL_MINILM_L6_V2`](crate::ALL_MINILM_L6_V2); what the cache
    /// holds is not asked for again. The cache is the hub client's usual one unless a folder is given.
    ///
    /// # Errors
    /// If the hub cannot be reached or has no such model, with advice; and those of [`Self::from_dir`].
    pub fn from_hub(id: &str, cache: Option<&Path>, device: &Device) -> Result<Self> {
        let dir = weights::fetch(id, cache)?;
        Self::load(&dir, id.rsplit('/').next().unwrap_or(id).to_owned(), device)
    }

    fn load(dir: &Path, name: String, device: &Device) -> Result<Self> {
        let Layout {
            network,
            pooling,
            dense,
            max_length,
            lower_case,
            prompt,
            tokenizer: vocabulary,
            weights,
        } = Layout::read(dir)?;
        let mut hash = Sha256::new();
        hash.update(format!("{network:?} {pooling:?} {max_length} {lower_case} {prompt:?}"));
        let bytes = read(&vocabulary)?;
        hash.update(&bytes);
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| wrong(&vocabulary, &e))?;
        // The file may ask for padding to 128 tokens and for cutting there; neither is how the model is used.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() }))
            .map_err(|e| wrong(&vocabulary, &e))?;
        let (known, most) = (tokenizer.get_vocab_size(true), network.vocabulary);
        if known > most {
            let problem = format!("{known} tokens, but the model's config.json has {most}");
            return Err(wrong(&vocabulary, &problem));
        }
        let builder = builder(&weights, &mut hash, device)?;
        let mut dim = network.hidden_size * pooling.modes().len();
        let network = Network::load(&network, &builder).map_err(|e| wrong(&weights, &e))?;
        let dense = match dense {
            None => None,
            Some(dense) => {
                dim = dense.sizes[1];
                Some(DenseLayer::load(&dense, &mut hash, device)?)
            }
        };
        let fingerprint = format!("{name}, sha256 {}", hex(&hash.finalize()));
        let device = device.clone();
        Ok(Self { name, dim, fingerprint, lower_case, prompt, tokenizer, network, pooling, dense, device })
    }

    /// (n, dim), the sentences in this order.
    fn encode_batch(&self, sentences: &[&Encoding]) -> Result<Tensor> {
        let lengths: Vec<usize> = sentences.iter().map(|sentence| sentence.len()).collect();
        let all = |of: fn(&Encoding) -> &[u32]| sentences.iter().flat_map(|one| of(one)).copied().collect();
        let (words, kinds): (Vec<u32>, Vec<u32>) = (all(Encoding::get_ids), all(Encoding::get_type_ids));
        let tokens = self.network.forward(&words, &kinds, &lengths)?;
        let [places, _, mask] = dml_ops::padded_places(&lengths, &self.device)?;
        let tokens = tokens.index_select(&places, 0)?.reshape((mask.dim(0)?, mask.dim(1)?, ()))?;
        let mut rows = self.pooling.forward(&tokens, &mask)?;
        if let Some(dense) = &self.dense {
            rows = dense.forward(&rows)?;
        }
        Ok(rows.broadcast_div(&rows.sqr()?.sum_keepdim(1)?.sqrt()?)?)
    }
}

impl DenseLayer {
    fn load(dense: &Dense, hash: &mut Sha256, device: &Device) -> Result<Self> {
        let builder = builder(&dense.weights, hash, device)?.pp("linear");
        hash.update(if dense.tanh { "tanh" } else { "identity" });
        let [inputs, outputs] = dense.sizes;
        let weight = builder.get((outputs, inputs), "weight").and_then(|weight| weight.t()?.contiguous());
        let bias = dense.bias.then(|| builder.get(outputs, "bias")).transpose();
        match (weight, bias) {
            (Ok(weight), Ok(bias)) => Ok(Self { weight, bias, tanh: dense.tanh }),
            (Err(e), _) | (_, Err(e)) => Err(wrong(&dense.weights, &e)),
        }
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let mut y = x.matmul(&self.weight)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(bias)?;
        }
        if self.tanh { y.tanh() } else { Ok(y) }
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|source| TeacherError::Io { path: path.into(), source })
}

fn wrong(path: &Path, e: &dyn std::fmt::Display) -> TeacherError {
    TeacherError::Model { path: path.into(), problem: e.to_string() }
}

/// The weights of a `.safetensors` file, or of torch's.
fn builder(path: &Path, hash: &mut Sha256, device: &Device) -> Result<VarBuilder<'static>> {
    let bytes = read(path)?;
    hash.update(&bytes);
    if path.extension().is_some_and(|extension| extension == "bin") {
        let tensors = dml_import::parse_torch(&bytes).map_err(|problem| wrong(path, &problem))?;
        let tensors = tensors.into_iter().map(|(name, tensor)| Ok((name, tensor.to_device(device)?)));
        let tensors = tensors.collect::<candle_core::Result<_>>()?;
        return Ok(VarBuilder::from_tensors(tensors, DType::F32, device));
    }
    VarBuilder::from_buffered_safetensors(bytes, DType::F32, device).map_err(|e| wrong(path, &e))
}

impl SentenceEncoder for SentenceTransformer {
    fn name(&self) -> &str {
        &self.name
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }

    fn encode(&self, sentences: &[&str]) -> Result<Tensor> {
        check(sentences)?;
        let texts: Vec<String> = sentences
            .iter()
            .map(|text| {
                let text = format!("{}{text}", self.prompt);
                if self.lower_case { text.to_lowercase() } else { text }
            })
            .collect();
        let encodings = self
            .tokenizer
            .encode_batch_fast(texts, true)
            .map_err(|e| TeacherError::Invalid(format!("the sentences cannot be tokenized: {e}")))?;
        let lengths: Vec<usize> = encodings.iter().map(Encoding::len).collect();
        in_batches(&lengths, self.dim, &self.device, |batch| {
            self.encode_batch(&batch.iter().map(|&i| &encodings[i]).collect::<Vec<_>>())
        })
    }
}
