use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::encoder::{check, hex, in_batches};
use crate::{Result, SentenceEncoder, TeacherError};
use files::Object;
use gru::Gru;
use vocabulary::Vocabulary;

mod files;
mod gru;
mod pairs;
mod parameters;
#[cfg(test)]
mod tests;
pub(crate) mod train;
pub(crate) mod vocabulary;

/// The sentence encoder of order-embeddings (Vendrov et al., ICLR 2016): the paper's teacher.
///
/// Words of 300 values go through one GRU of 1024 states, with a step for the end of the sentence; its last state is
/// scaled to length one, and its absolute value taken (in the order model; the symmetric one keeps the signs).
/// Components of an order model's vectors are thus not negative, and cosines lie in \[0, 1\].
///
/// # File formats
/// As published: `<name>.npz` with the arrays `Wemb`, `encoder_W`, `encoder_b`, `encoder_U`, `encoder_Wx`, `encoder_Ux`,
/// `encoder_bx` (and the image side's `ff_image_W`, `ff_image_b`), and `<name>.pkl`, a pickle of `{"options": {"abs": …},
/// "worddict": {word: number from 2 on}}`; 0 ends a sentence, 1 is any other word. Or converted: `<name>.safetensors` with
/// the same names and `<name>.json` with the same object.
pub struct OrderEmbedding {
    name: String,
    dim: usize,
    absolute: bool,
    fingerprint: String,
    vocabulary: Vocabulary,
    gru: Gru,
    /// (dim, features) and (dim)
    images: Option<[Tensor; 2]>,
    device: Device,
}

impl OrderEmbedding {
    /// Loads a model from its `.npz` or `.safetensors` file, and the vocabulary of the same name beside it.
    ///
    /// # Errors
    /// If a file is missing or damaged, or if the arrays are not those of an order-embedding.
    pub fn from_file(weights: &Path, device: &Device) -> Result<Self> {
        let (tensors, vocabulary) = files::read(weights)?;
        let name = weights.file_stem().unwrap_or(weights.as_os_str()).to_string_lossy().into_owned();
        Self::new(name, weights, tensors, &vocabulary, device)
    }

    fn new(
        name: String,
        path: &Path,
        tensors: BTreeMap<String, Tensor>,
        (vocabulary_path, object): &Object,
        device: &Device,
    ) -> Result<Self> {
        let dim = check_shapes(path, &tensors)?;
        let absolute = match object.get("options").and_then(|options| options.get("abs")) {
            Some(Value::Bool(absolute)) => *absolute,
            _ => {
                let problem =
                    "options say not whether `abs` is true (order model) or false (symmetric model)".into();
                return Err(TeacherError::Model { path: vocabulary_path.clone(), problem });
            }
        };
        let words = tensors["Wemb"].dim(0)?;
        let worddict = object.get("worddict").unwrap_or(&Value::Null);
        let vocabulary = Vocabulary::from_json(vocabulary_path, worddict, words)?;
        let fingerprint = fingerprint(&name, &tensors, &vocabulary, absolute)?;
        let get = |name: &str| tensors[name].to_device(device).and_then(|tensor| tensor.to_dtype(DType::F32));
        let images = match tensors.contains_key("ff_image_W") {
            true => Some([get("ff_image_W")?.t()?.contiguous()?, get("ff_image_b")?]),
            false => None,
        };
        let gru = Gru::from_published(get)?;
        Ok(Self { name, dim, absolute, fingerprint, vocabulary, gru, images, device: device.clone() })
    }

    /// The vectors of images, from features (in the published model, VGG-19's fc7, ReLU and length one): the image side
    /// that captions were trained against.
    ///
    /// # Shapes
    /// (n, features) → (n, dim), rows of length 1
    ///
    /// # Errors
    /// If the model has no image side, or the features have another length.
    pub fn images(&self, features: &Tensor) -> Result<Tensor> {
        let Some([weight, bias]) = &self.images else {
            return Err(TeacherError::Invalid(format!(
                "the model {} has no image side (ff_image_W)",
                self.name
            )));
        };
        Ok(finish(&dml_ops::linear(features, weight, Some(bias))?, self.absolute)?)
    }
}

impl SentenceEncoder for OrderEmbedding {
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
        let steps: Vec<Vec<u32>> = sentences.iter().map(|sentence| self.vocabulary.steps(sentence)).collect();
        let lengths: Vec<usize> = steps.iter().map(Vec::len).collect();
        in_batches(&lengths, self.dim, &self.device, |batch| {
            let batch: Vec<&[u32]> = batch.iter().map(|&i| &*steps[i]).collect();
            Ok(finish(&self.gru.forward(&batch)?, self.absolute)?)
        })
    }
}

/// Scales rows to length one; `absolute` takes their absolute value.
pub(crate) fn finish(rows: &Tensor, absolute: bool) -> candle_core::Result<Tensor> {
    // A row of zeros, which only a made-up model has, stays one.
    let norm = (rows.sqr()?.sum_keepdim(1)? + 1e-24)?.sqrt()?;
    let unit = rows.broadcast_div(&norm)?;
    if absolute { unit.abs() } else { Ok(unit) }
}

/// Checks names and shapes; answers the dimension of the state.
fn check_shapes(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<usize> {
    let wrong = |problem| TeacherError::Model { path: path.into(), problem };
    let shape = |name: &str| match tensors.get(name) {
        Some(tensor) if tensor.dtype().is_float() => Ok(tensor.dims()),
        Some(tensor) => Err(wrong(format!("{name} holds {} values", tensor.dtype().as_str()))),
        None => Err(wrong(format!("has no {name}, so it is no order-embedding"))),
    };
    let &[words, word_dim] = shape("Wemb")? else {
        return Err(wrong(format!("Wemb has the shape {:?}, not (words, word dim)", shape("Wemb")?)));
    };
    let &[dim, _] = shape("encoder_Ux")? else {
        return Err(wrong(format!("encoder_Ux has the shape {:?}, not (dim, dim)", shape("encoder_Ux")?)));
    };
    if words <= vocabulary::FIRST as usize || dim == 0 {
        return Err(wrong(format!("{words} words and {dim} states are no order-embedding")));
    }
    let images = tensors.contains_key("ff_image_W");
    let features = if images { shape("ff_image_W")?[0] } else { 0 };
    let wanted: [(&str, &[usize]); 8] = [
        ("encoder_W", &[word_dim, 2 * dim]),
        ("encoder_b", &[2 * dim]),
        ("encoder_U", &[dim, 2 * dim]),
        ("encoder_Wx", &[word_dim, dim]),
        ("encoder_bx", &[dim]),
        ("encoder_Ux", &[dim, dim]),
        ("ff_image_W", &[features, dim]),
        ("ff_image_b", &[dim]),
    ];
    for (name, wanted) in wanted {
        if (images || !name.starts_with("ff_image")) && shape(name)? != wanted {
            return Err(wrong(format!("{name} has the shape {:?}, not {wanted:?}", shape(name)?)));
        }
    }
    Ok(dim)
}

fn fingerprint(
    name: &str,
    tensors: &BTreeMap<String, Tensor>,
    vocabulary: &Vocabulary,
    absolute: bool,
) -> Result<String> {
    let mut hash = Sha256::new().chain_update(format!("order-embedding, abs {absolute}"));
    for (name, tensor) in tensors.iter().filter(|(name, _)| !name.starts_with("ff_image")) {
        hash.update(format!("{name} {:?}", tensor.dims()));
        for value in tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()? {
            hash.update(value.to_le_bytes());
        }
    }
    let words: BTreeMap<&String, &u32> = vocabulary.0.iter().collect();
    hash.update(format!("{words:?}"));
    Ok(format!("{name}, sha256 {}", hex(&hash.finalize())))
}
