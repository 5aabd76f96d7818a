//! Training an order-embedding from captions.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use candle_core::{D, DType, Device, Tensor};
use dml_losses::{Hinges, Similarity, ranking};
use dml_ops::{Adam, AdamConfig};
use serde_json::{Value, json};

use super::pairs::{Pair, batches};
use super::parameters::{Parameters, Sizes};
use super::vocabulary::Vocabulary;
use super::{OrderEmbedding, files};
use crate::retrieval::{CaptionScore, caption_retrieval, paraphrase_retrieval};
use crate::{Result, TeacherError};

/// The name of a trained model and of its files.
const NAME: &str = "order-embedding";

/// Items with sentences that describe them.
#[derive(Clone, Debug)]
pub struct CaptionSet {
    /// For messages.
    pub name: String,
    /// The sentences of each item.
    pub captions: Vec<Vec<String>>,
    /// The items as seen, such as pooled features of photographs: (items, features), f32, of any length; they are scaled
    /// to length one. Without them, captions of one item are trained against each other.
    pub features: Option<Tensor>,
}

/// How an order-embedding is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderSettings {
    /// Length of a word's vector.
    pub word_dim: usize,
    /// Length of the state, and so of a sentence's vector.
    pub dim: usize,
    /// What draws captions to what they belong to. With [`Similarity::Order`] vectors have no negative component.
    pub similarity: Similarity,
    /// By how much what belongs together must be nearer than what does not.
    pub margin: f64,
    /// Which of the batch's other items count.
    pub hinges: Hinges,
    /// Pairs of a step.
    pub batch: usize,
    /// How often every caption is seen.
    pub epochs: usize,
    /// Adam's.
    pub learning_rate: f64,
    /// The length to which each tensor's gradient is cut.
    pub clip: f64,
    /// Words that come less often are unknown ones. Where it is 1 no unknown word is ever seen in training.
    pub least: usize,
    /// Seed of every draw.
    pub seed: u64,
}

impl OrderSettings {
    /// Those of Vendrov et al. (2016): 300 values a word, states of 1024, batches of 128, Adam at 10⁻³, gradients cut to
    /// length 2, margin 0.05 for [`Similarity::Order`] and 0.2 for [`Similarity::Cosine`]; but 15 epochs, where the
    /// original has up to 100, and words that come once are unknown.
    pub fn new(similarity: Similarity) -> Self {
        Self {
            word_dim: 300,
            dim: 1024,
            similarity,
            margin: if similarity == Similarity::Order { 0.05 } else { 0.2 },
            hinges: Hinges::Sum,
            batch: 128,
            epochs: 15,
            learning_rate: 1e-3,
            clip: 2.0,
            least: 2,
            seed: 0,
        }
    }

    fn check(&self) -> Result<()> {
        let positive = |name: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => {
                Err(TeacherError::Invalid(format!("the {name} is {value}, but must be a number above 0")))
            }
        };
        positive("length of a word's vector", self.word_dim as f64)?;
        positive("length of the state", self.dim as f64)?;
        positive("number of epochs", self.epochs as f64)?;
        positive("margin", self.margin)?;
        positive("learning rate", self.learning_rate)?;
        positive("length of gradients", self.clip)?;
        match self.batch {
            0 | 1 => {
                Err(TeacherError::Invalid("a batch must have 2 pairs or more, to rank one of them".into()))
            }
            _ => Ok(()),
        }
    }
}

/// What happens in training.
#[derive(Clone, Debug)]
pub enum OrderEvent {
    /// The data are read.
    Started {
        /// Words with a vector.
        words: usize,
        /// Captions that are trained on.
        captions: usize,
        /// Epochs to come.
        epochs: usize,
    },
    /// An epoch begins.
    Epoch {
        /// From 1.
        epoch: usize,
        /// Its steps.
        steps: usize,
    },
    /// A step is done.
    Step {
        /// The ranking loss, mean over the pairs.
        loss: f64,
        /// How many they were.
        pairs: usize,
    },
    /// The captions held out were ranked.
    Judged {
        /// The epochs done.
        epoch: usize,
        /// For each set its name and how well captions find what they belong to.
        scores: Vec<(String, CaptionScore)>,
        /// Whether no epoch was better yet; this one is saved.
        best: bool,
    },
}

/// How training ended.
#[derive(Clone, Debug, PartialEq)]
pub struct OrderOutcome {
    /// Whether it was stopped from outside.
    pub interrupted: bool,
    /// The epoch that is saved, from 1; one that was interrupted counts.
    pub saved: usize,
}

/// Trains the GRU of Vendrov et al. (ICLR 2016), and the image side, with the pairwise ranking loss.
///
/// Results are the same bits for any number of threads.
pub struct OrderTrainer {
    settings: OrderSettings,
    sets: Vec<TrainSet>,
    vocabulary: Vocabulary,
    parameters: Parameters,
    adam: Adam,
    device: Device,
}

struct TrainSet {
    name: String,
    /// The words of each item's captions.
    steps: Vec<Vec<Vec<u32>>>,
    lengths: Vec<Vec<usize>>,
    /// (items, features), of length one
    features: Option<Tensor>,
}

impl OrderTrainer {
    /// A model that has made no step.
    ///
    /// # Errors
    /// If a setting is out of range, no batch can be made of the captions, or the features do not fit the items or each other.
    pub fn new(sets: &[CaptionSet], settings: OrderSettings, device: &Device) -> Result<Self> {
        settings.check()?;
        let sentences = sets.iter().flat_map(|set| set.captions.iter().flatten());
        let vocabulary = Vocabulary::from_sentences(sentences.map(String::as_str), settings.least);
        if vocabulary.0.is_empty() {
            let problem = format!("no word comes {} times in the captions", settings.least);
            return Err(TeacherError::Invalid(problem));
        }
        let mut features = 0;
        for set in sets {
            let Some(of) = &set.features else { continue };
            let (items, length) = of.dims2()?;
            if items != set.captions.len() || length == 0 || (features != 0 && length != features) {
                let problem = format!(
                    "{} has features of the shape {:?} for {} items, beside features of length {features}",
                    set.name,
                    of.dims(),
                    set.captions.len()
                );
                return Err(TeacherError::Invalid(problem));
            }
            features = length;
        }
        let sets = sets.iter().map(|set| TrainSet::new(set, &vocabulary, device));
        let sets = sets.collect::<Result<Vec<_>>>()?;
        let sizes =
            Sizes { words: vocabulary.vectors(), word_dim: settings.word_dim, dim: settings.dim, features };
        let parameters = Parameters::new(sizes, settings.seed, DType::F32, device)?;
        let adam = Adam::new(AdamConfig::default());
        let trainer = Self { settings, sets, vocabulary, parameters, adam, device: device.clone() };
        match trainer.batches(0).is_empty() {
            true => Err(TeacherError::Invalid("there are too few captions to rank one among others".into())),
            false => Ok(trainer),
        }
    }

    /// All epochs. After each the captions of `held_out` are ranked (see [`caption_retrieval`](crate::caption_retrieval)
    /// and [`paraphrase_retrieval`]), and the epoch with the largest sum of recalls at 1, 5 and 10 is what the
    /// folder `out` holds in the end; without such captions, the last. An epoch that `stop` interrupts is ranked, and
    /// saved where it is the best, as if it were whole.
    ///
    /// # Errors
    /// If the loss is no longer finite, a file cannot be written, or the captions held out cannot be ranked.
    pub fn train(
        &mut self,
        held_out: &[CaptionSet],
        out: &Path,
        stop: &AtomicBool,
        sink: &mut dyn FnMut(&OrderEvent),
    ) -> Result<OrderOutcome> {
        let (epochs, captions) = (self.settings.epochs, self.sets.iter().map(TrainSet::len).sum());
        sink(&OrderEvent::Started { words: self.vocabulary.0.len(), captions, epochs });
        let mut best = (f64::NEG_INFINITY, 0);
        for epoch in 1..=epochs {
            let whole = self.epoch(epoch, stop, sink)?;
            let scores = self.judge(held_out)?;
            let sum: f64 = scores.iter().map(|(_, score)| score.sum()).sum();
            let improved = held_out.is_empty() || sum > best.0;
            if improved {
                best = (sum, epoch);
                self.save(out, epoch, &scores)?;
            }
            sink(&OrderEvent::Judged { epoch, scores, best: improved });
            if !whole {
                return Ok(OrderOutcome { interrupted: true, saved: best.1 });
            }
        }
        Ok(OrderOutcome { interrupted: false, saved: best.1 })
    }

    /// The model as it is now.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn encoder(&self) -> Result<OrderEmbedding> {
        let object = (Path::new(NAME).to_owned(), self.object(0, &[]));
        OrderEmbedding::new(NAME.into(), Path::new(NAME), self.parameters.published()?, &object, &self.device)
    }

    /// Whether the epoch came to its end.
    fn epoch(&mut self, epoch: usize, stop: &AtomicBool, sink: &mut dyn FnMut(&OrderEvent)) -> Result<bool> {
        let batches = self.batches(epoch as u64);
        sink(&OrderEvent::Epoch { epoch, steps: batches.len() });
        for (step, (set, pairs)) in batches.iter().enumerate() {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            let loss = self.step(*set, pairs)?;
            if !loss.is_finite() {
                let rate = self.settings.learning_rate;
                return Err(TeacherError::Invalid(format!(
                    "the loss is {loss} in step {step} of epoch {epoch}: try a learning rate below {rate}"
                )));
            }
            sink(&OrderEvent::Step { loss, pairs: pairs.len() });
        }
        Ok(true)
    }

    /// The batches of an epoch with their sets, in random order.
    fn batches(&self, epoch: u64) -> Vec<(usize, Vec<Pair>)> {
        let OrderSettings { batch, seed, .. } = self.settings;
        let mut all = Vec::new();
        for (number, set) in self.sets.iter().enumerate() {
            let of_set = batches(&set.lengths, set.features.is_some(), batch, [seed, epoch, number as u64]);
            all.extend(of_set.into_iter().map(|pairs| (number, pairs)));
        }
        // No round of pairs has this number.
        let mut stream = dml_rand::Stream::new(seed, dml_rand::Purpose::Shuffle, epoch, u64::MAX);
        let order = stream.permutation(all.len());
        order.into_iter().map(|i| std::mem::take(&mut all[i])).collect()
    }

    fn step(&mut self, set: usize, pairs: &[Pair]) -> Result<f64> {
        let OrderSettings { similarity, margin, hinges, learning_rate, clip, .. } = self.settings;
        let [a, b] = self.vectors(&self.sets[set], pairs)?;
        // The sum over the batch is what gradients are cut for.
        let pairs = pairs.len() as f64;
        let loss = (ranking(&a, &b, similarity, margin, hinges)? * pairs)?;
        let gradients = dml_ops::backward(&loss)?;
        self.parameters.step(&mut self.adam, &gradients, learning_rate, clip)?;
        Ok(loss.to_dtype(DType::F64)?.to_scalar::<f64>()? / pairs)
    }

    /// Of each pair the caption and what belongs to it.
    fn vectors(&self, set: &TrainSet, pairs: &[Pair]) -> Result<[Tensor; 2]> {
        let absolute = self.settings.similarity == Similarity::Order;
        let steps = |item: usize, caption: usize| &*set.steps[item][caption];
        let captions = pairs.iter().map(|pair| steps(pair.item, pair.caption));
        match &set.features {
            Some(features) => {
                let captions: Vec<&[u32]> = captions.collect();
                let items: Vec<u32> = pairs.iter().map(|pair| pair.item as u32).collect();
                let features = features.index_select(&Tensor::new(items, features.device())?, 0)?;
                let images = self.parameters.images(&features, absolute)?;
                Ok([self.parameters.sentences(&captions, absolute)?, images])
            }
            None => {
                let others = pairs.iter().filter_map(|pair| Some(steps(pair.item, pair.other?)));
                let both =
                    self.parameters.sentences(&captions.chain(others).collect::<Vec<_>>(), absolute)?;
                let n = pairs.len();
                Ok([both.narrow(0, 0, n)?, both.narrow(0, n, n)?])
            }
        }
    }

    fn judge(&self, held_out: &[CaptionSet]) -> Result<Vec<(String, CaptionScore)>> {
        if held_out.is_empty() {
            return Ok(Vec::new());
        }
        let encoder = self.encoder()?;
        let score = |set: &CaptionSet| {
            let score = match &set.features {
                Some(features) => {
                    let images = encoder.images(&unit_rows(&features.to_device(&self.device)?)?)?;
                    caption_retrieval(&encoder, &set.captions, &images)?
                }
                None => paraphrase_retrieval(&encoder, &set.captions, 1, self.settings.seed)?,
            };
            Ok((set.name.clone(), score))
        };
        held_out.iter().map(score).collect()
    }

    fn save(&self, out: &Path, epoch: usize, scores: &[(String, CaptionScore)]) -> Result<()> {
        let weights = out.join(format!("{NAME}.safetensors"));
        files::write(&weights, &self.parameters.published()?, &self.object(epoch, scores))
    }

    /// What the vocabulary's file says: the words, and how they were trained.
    fn object(&self, epoch: usize, scores: &[(String, CaptionScore)]) -> Value {
        let settings = &self.settings;
        let scores: Value = scores
            .iter()
            .map(|(name, CaptionScore { retrieval, .. })| {
                (name.clone(), json!([retrieval.r1, retrieval.r5, retrieval.r10]))
            })
            .collect::<serde_json::Map<_, _>>()
            .into();
        let similarity = match settings.similarity {
            Similarity::Order => "order",
            Similarity::Cosine => "cosine",
        };
        let options = json!({
            "abs": settings.similarity == Similarity::Order,
            "dim": settings.dim,
            "dim_word": settings.word_dim,
            "n_words": self.vocabulary.vectors(),
            "method": similarity,
            "margin": settings.margin,
            "hardest": settings.hinges == Hinges::Hardest,
            "batch_size": settings.batch,
            "lrate": settings.learning_rate,
            "grad_clip": settings.clip,
            "least": settings.least,
            "seed": settings.seed,
            "epoch": epoch,
            "data": self.sets.iter().map(|set| set.name.as_str()).collect::<Vec<_>>(),
            "recall": scores,
        });
        json!({ "options": options, "worddict": self.vocabulary.to_json() })
    }
}

impl TrainSet {
    fn new(set: &CaptionSet, vocabulary: &Vocabulary, device: &Device) -> Result<Self> {
        // A caption without a word says nothing.
        let of = |captions: &Vec<String>| {
            let captions = captions.iter().map(|caption| vocabulary.steps(caption));
            captions.filter(|steps| steps.len() > 1).collect::<Vec<_>>()
        };
        let steps: Vec<Vec<Vec<u32>>> = set.captions.iter().map(of).collect();
        let lengths = steps.iter().map(|captions| captions.iter().map(Vec::len).collect()).collect();
        let features = set.features.as_ref().map(|features| unit_rows(&features.to_device(device)?));
        Ok(Self { name: set.name.clone(), steps, lengths, features: features.transpose()? })
    }

    fn len(&self) -> usize {
        self.steps.iter().map(Vec::len).sum()
    }
}

/// Rows of length one; a row of zeros stays one.
pub(super) fn unit_rows(x: &Tensor) -> candle_core::Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_keepdim(D::Minus1)? + 1e-24)?.sqrt()?)
}
