use std::fmt::Write;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::BertModel;
use sha2::{Digest, Sha256};
use tokenizers::{Encoding, Tokenizer, TruncationParams};

use crate::encoder::check;
use crate::layout::Layout;
use crate::{Result, SentenceEncoder, TeacherError, weights};

/// Sentences that go through the network together.
const BATCH: usize = 32;

/// A BERT sentence encoder of sentence-transformers: transformer, mean over the sentence's tokens, length one.
///
/// Batches are made of sentences of like length; padding is masked in the attention and in the mean, so that a
/// sentence's vector does not depend on the others (other than by rounding, below 1e-5). Sentences longer than the model's
/// `max_seq_length` are cut there, as sentence-transformers does.
pub struct SentenceTransformer {
    name: String,
    dim: usize,
    fingerprint: String,
    lower_case: bool,
    tokenizer: Tokenizer,
    bert: BertModel,
}

impl SentenceTransformer {
    /// Loads a model from its folder: `modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`,
    /// `config.json`, `tokenizer.json` and `model.safetensors`. The first three may be missing (then mean pooling and
    /// the longest length the positions allow).
    ///
    /// # Errors
    /// If a file is missing or damaged, or if the model is anything but a BERT with mean pooling; the error names the
    /// file and what is not implemented.
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
        let Layout { bert: config, max_length, lower_case, tokenizer: vocabulary, weights } =
            Layout::read(dir)?;
        let read = |path: &Path| {
            std::fs::read(path).map_err(|source| TeacherError::Io { path: path.into(), source })
        };
        let wrong = |path: &Path, e: &dyn std::fmt::Display| TeacherError::Model {
            path: path.into(),
            problem: e.to_string(),
        };
        let bytes = read(&vocabulary)?;
        let mut hash = Sha256::new().chain_update(format!("{config:?} {max_length} {lower_case}"));
        hash.update(&bytes);
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| wrong(&vocabulary, &e))?;
        // The file asks for padding to 128 tokens and for cutting there; neither is how the model is used.
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(Some(TruncationParams { max_length, ..TruncationParams::default() }))
            .map_err(|e| wrong(&vocabulary, &e))?;
        let known = tokenizer.get_vocab_size(true);
        if known > config.vocab_size {
            let problem = format!("{known} tokens, but the model's config.json has {}", config.vocab_size);
            return Err(wrong(&vocabulary, &problem));
        }
        let bytes = read(&weights)?;
        hash.update(&bytes);
        let builder = VarBuilder::from_buffered_safetensors(bytes, DType::F32, device)
            .map_err(|e| wrong(&weights, &e))?;
        let bert = BertModel::load(builder, &config).map_err(|e| wrong(&weights, &e))?;
        let mut fingerprint = format!("{name}, sha256 ");
        for byte in hash.finalize() {
            let _ = write!(fingerprint, "{byte:02x}");
        }
        Ok(Self { name, dim: config.hidden_size, fingerprint, lower_case, tokenizer, bert })
    }

    /// (n, dim), the sentences in this order.
    fn encode_batch(&self, sentences: &[&Encoding]) -> candle_core::Result<Tensor> {
        let (n, device) = (sentences.len(), &self.bert.device);
        let length = sentences.iter().map(|sentence| sentence.len()).max().unwrap_or(0);
        let padded = |of: fn(&Encoding) -> &[u32]| {
            let mut values = vec![0u32; n * length];
            for (row, sentence) in values.chunks_mut(length).zip(sentences) {
                row[..sentence.len()].copy_from_slice(of(sentence));
            }
            Tensor::from_vec(values, (n, length), device)
        };
        let mask = padded(Encoding::get_attention_mask)?;
        let ids = padded(Encoding::get_ids)?;
        let tokens = self.bert.forward(&ids, &padded(Encoding::get_type_ids)?, Some(&mask))?;
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(2)?;
        let mean = tokens.broadcast_mul(&mask)?.sum(1)?.broadcast_div(&mask.sum(1)?)?;
        mean.broadcast_div(&mean.sqr()?.sum_keepdim(1)?.sqrt()?)
    }
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
        if sentences.is_empty() {
            return Ok(Tensor::zeros((0, self.dim), DType::F32, &self.bert.device)?);
        }
        let texts: Vec<String> = sentences
            .iter()
            .map(|text| if self.lower_case { text.to_lowercase() } else { (*text).to_owned() })
            .collect();
        let encodings = self
            .tokenizer
            .encode_batch_fast(texts, true)
            .map_err(|e| TeacherError::Invalid(format!("the sentences cannot be tokenized: {e}")))?;
        let mut order: Vec<usize> = (0..encodings.len()).collect();
        order.sort_by_key(|&i| encodings[i].len());
        let mut batches = Vec::with_capacity(order.len().div_ceil(BATCH));
        for batch in order.chunks(BATCH) {
            let batch: Vec<&Encoding> = batch.iter().map(|&i| &encodings[i]).collect();
            batches.push(self.encode_batch(&batch)?);
        }
        let mut place = vec![0u32; order.len()];
        for (row, &i) in order.iter().enumerate() {
            place[i] = row as u32;
        }
        let place = Tensor::new(place, &self.bert.device)?;
        Ok(Tensor::cat(&batches, 0)?.index_select(&place, 0)?)
    }
}
