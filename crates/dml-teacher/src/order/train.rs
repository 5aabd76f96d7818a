use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{DType, Device, Tensor, Var};
use dml_ops::{Adam, AdamConfig};
use dml_rand::{Purpose, Stream, hash};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::gru::Gru;
use super::vocabulary::{FIRST, Vocabulary, normalise};
use super::{OrderEmbedding, finish};
use crate::{Result, TeacherError};

/// What makes two vectors near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// The order violation Σ max(0, s − v)² of a sentence s and an image v is small; no component is negative.
    Order,
    /// The cosine is large.
    Cosine,
}

/// How an order-embedding is trained. The defaults are those of the published order model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OrderTraining {
    /// Length of a word's vector.
    pub word_dim: usize,
    /// Length of a sentence's vector.
    pub dim: usize,
    /// What is compared.
    pub similarity: Similarity,
    /// By how much a pair is to be nearer than any other; the published cosine model has 0.2.
    pub margin: f64,
    /// Pairs in a batch, each held against all others in it.
    pub batch: usize,
    /// Adam's.
    pub learning_rate: f64,
    /// The norm at which each parameter's gradient is cut.
    pub clip: f64,
    /// Whether only the worst of the others counts (max of hinges), not their sum.
    pub hard_negatives: bool,
    /// Of the initial values, the order of the pairs and the choice of captions.
    pub seed: u64,
}

impl Default for OrderTraining {
    fn default() -> Self {
        Self {
            word_dim: 300,
            dim: 1024,
            similarity: Similarity::Order,
            margin: 0.05,
            batch: 128,
            learning_rate: 1e-3,
            clip: 2.0,
            hard_negatives: false,
            seed: 0,
        }
    }
}

/// What captions are trained against.
#[derive(Clone, Copy, Debug)]
pub enum Pairs<'a> {
    /// The features of the image that the captions of each group describe: one row a group.
    Images(&'a Tensor),
    /// Another caption of the same group: for videos or images whose features are not there. It makes paraphrases near
    /// and everything else far, without any picture.
    Captions,
}

/// Trains an order-embedding by pairwise ranking: max(0, margin + error of the pair − error of another), over all others of
/// the batch, for the sentence among images and for the image among sentences.
///
/// The words of the vocabulary are those of the captions given, by descending frequency; a word's number is its place from
/// 2 on. Initial values: words and input weights normal (σ 0.1), state weights uniform in ±1/√dim, biases 0, image weights
/// Xavier uniform.
pub struct OrderTrainer {
    config: OrderTraining,
    words: Vec<String>,
    vocabulary: Vocabulary,
    vars: BTreeMap<String, Var>,
    adam: Adam,
    device: Device,
}

impl OrderTrainer {
    /// A model that has learnt nothing, with the words of these captions. `features` is the length of an image's features,
    /// where there are images.
    ///
    /// # Errors
    /// If a size is zero, the margin or the rate is not positive, or the captions have no word.
    pub fn new(
        config: OrderTraining,
        captions: &[Vec<String>],
        features: Option<usize>,
        device: &Device,
    ) -> Result<Self> {
        let OrderTraining { word_dim, dim, margin, batch, learning_rate, clip, seed, .. } = config;
        if word_dim == 0 || dim == 0 || batch < 2 || features == Some(0) {
            return Err(TeacherError::Invalid("a dimension of 0, or a batch below 2, trains nothing".into()));
        }
        if ![margin, learning_rate, clip].iter().all(|value| value.is_finite() && *value > 0.0) {
            return Err(TeacherError::Invalid("margin, learning rate and clip must be above 0".into()));
        }
        let words = count_words(captions);
        if words.is_empty() {
            return Err(TeacherError::Invalid("the captions have no word".into()));
        }
        let mut vars = BTreeMap::new();
        let mut add = |name: &str, shape: &[usize], start: Start| {
            let mut stream = Stream::new(seed, Purpose::Init, 0, hash(name));
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| start.draw(&mut stream)).collect();
            vars.insert(name.to_string(), Var::from_tensor(&Tensor::from_vec(values, shape, device)?)?);
            Ok::<_, candle_core::Error>(())
        };
        let state = Start::Uniform(1.0 / (dim as f64).sqrt());
        add("Wemb", &[words.len() + FIRST as usize, word_dim], Start::Normal(0.1))?;
        add("encoder_W", &[word_dim, 2 * dim], Start::Normal(0.1))?;
        add("encoder_Wx", &[word_dim, dim], Start::Normal(0.1))?;
        add("encoder_U", &[dim, 2 * dim], state)?;
        add("encoder_Ux", &[dim, dim], state)?;
        add("encoder_b", &[2 * dim], Start::Uniform(0.0))?;
        add("encoder_bx", &[dim], Start::Uniform(0.0))?;
        if let Some(features) = features {
            add("ff_image_W", &[features, dim], Start::Uniform((6.0 / (features + dim) as f64).sqrt()))?;
            add("ff_image_b", &[dim], Start::Uniform(0.0))?;
        }
        let vocabulary =
            Vocabulary((FIRST..).zip(&words).map(|(number, word)| (word.clone(), number)).collect());
        let adam = Adam::new(AdamConfig::default());
        Ok(Self { config, words, vocabulary, vars, adam, device: device.clone() })
    }

    /// One pass: each group of captions once, in an order and with captions drawn anew each epoch. Answers the mean loss of
    /// a pair. `progress` is told how many of how many batches are done, and may stop the pass.
    ///
    /// # Shapes
    /// Features of [`Pairs::Images`]: (groups, features)
    ///
    /// # Errors
    /// If a group has too few captions or the features are of another shape; those of `progress`.
    pub fn epoch<E: From<TeacherError>>(
        &mut self,
        epoch: u64,
        groups: &[Vec<String>],
        pairs: Pairs,
        progress: &mut dyn FnMut(usize, usize) -> std::result::Result<(), E>,
    ) -> std::result::Result<f64, E> {
        let wanted = if matches!(pairs, Pairs::Captions) { 2 } else { 1 };
        if let Some(group) = groups.iter().position(|captions| captions.len() < wanted) {
            let problem = format!("group {group} has {} captions; {wanted} are needed", groups[group].len());
            return Err(TeacherError::Invalid(problem).into());
        }
        let seed = self.config.seed;
        let order = Stream::new(seed, Purpose::Shuffle, epoch, 0).permutation(groups.len());
        // A single pair has no other to be told from.
        let batches: Vec<&[usize]> =
            order.chunks(self.config.batch).filter(|batch| batch.len() > 1).collect();
        let mut total = 0.0;
        let mut count = 0;
        for (done, batch) in batches.iter().enumerate() {
            progress(done, batches.len())?;
            total += self.step(epoch, groups, pairs, batch)?;
            count += batch.len();
        }
        Ok(total / count.max(1) as f64)
    }

    fn step(&mut self, epoch: u64, groups: &[Vec<String>], pairs: Pairs, batch: &[usize]) -> Result<f64> {
        let gru = Gru::new(|name| Ok::<_, candle_core::Error>(self.vars[name].as_tensor().clone()))?;
        let absolute = self.absolute();
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for &group in batch {
            let captions = &groups[group];
            let mut stream = Stream::new(self.config.seed, Purpose::Caption, epoch, group as u64);
            let first = stream.below(captions.len());
            left.push(captions[first].as_str());
            if let Pairs::Captions = pairs {
                right
                    .push(captions[(first + 1 + stream.below(captions.len() - 1)) % captions.len()].as_str());
            }
        }
        let sentences = self.sentences(&gru, &left)?;
        let others = match pairs {
            Pairs::Captions => self.sentences(&gru, &right)?,
            Pairs::Images(features) => {
                let (Some(weight), Some(bias)) = (self.vars.get("ff_image_W"), self.vars.get("ff_image_b"))
                else {
                    return Err(TeacherError::Invalid(
                        "a model made without images cannot train on them".into(),
                    ));
                };
                let rows: Vec<u32> = batch.iter().map(|&group| group as u32).collect();
                let rows = features.index_select(&Tensor::new(rows, features.device())?, 0)?;
                finish(&rows.matmul(weight)?.broadcast_add(bias)?, absolute)?
            }
        };
        let loss = ranking_loss(&sentences, &others, &self.config)?;
        let gradients = loss.backward()?;
        for (name, var) in &self.vars {
            // A step without images leaves the image side alone.
            let Some(gradient) = gradients.get(var) else { continue };
            let norm = f64::from(gradient.sqr()?.sum_all()?.sqrt()?.to_scalar::<f32>()?);
            if !norm.is_finite() {
                return Err(TeacherError::Invalid(format!(
                    "the gradient of {name} is {norm}; lower the learning rate"
                )));
            }
            let scale = if norm > self.config.clip { self.config.clip / norm } else { 1.0 };
            self.adam.update(name, var, &(gradient * scale)?, self.config.learning_rate)?;
        }
        Ok(loss.to_scalar::<f32>()?.into())
    }

    fn sentences(&self, gru: &Gru, sentences: &[&str]) -> Result<Tensor> {
        let steps: Vec<Vec<u32>> = sentences.iter().map(|sentence| self.vocabulary.steps(sentence)).collect();
        let (n, longest) = (steps.len(), steps.iter().map(Vec::len).max().unwrap_or(1));
        let (mut ids, mut mask) = (vec![0u32; n * longest], vec![0f32; n * longest]);
        for (i, steps) in steps.iter().enumerate() {
            ids[i * longest..][..steps.len()].copy_from_slice(steps);
            mask[i * longest..][..steps.len()].fill(1.0);
        }
        let ids = Tensor::from_vec(ids, (n, longest), &self.device)?;
        let mask = Tensor::from_vec(mask, (n, longest), &self.device)?;
        Ok(finish(&gru.forward(&ids, Some(&mask))?, self.absolute())?)
    }

    fn absolute(&self) -> bool {
        self.config.similarity == Similarity::Order
    }

    /// The model as it is now.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn encoder(&self, name: &str) -> Result<OrderEmbedding> {
        let tensors = self.tensors()?;
        OrderEmbedding::new(
            name.into(),
            Path::new(name),
            tensors,
            &(name.into(), self.object()),
            &self.device,
        )
    }

    /// The parameters under their published names, copied.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        self.vars.iter().map(|(name, var)| Ok((name.clone(), var.as_detached_tensor().copy()?))).collect()
    }

    /// What lies beside the parameters: `{"options": …, "worddict": …}`.
    pub fn object(&self) -> Value {
        let words: BTreeMap<&String, u32> = self.words.iter().zip(FIRST..).collect();
        json!({ "options": { "abs": self.absolute(), "training": self.config }, "worddict": words })
    }

    /// The parameters and the optimiser's state, for going on later.
    ///
    /// # Errors
    /// If memory cannot be had.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = self.tensors()?;
        let adam = self.adam.state()?;
        state.extend(adam.into_iter().map(|(name, tensor)| (format!("adam.{name}"), tensor)));
        Ok(state)
    }

    /// Goes on from a [`state`](Self::state) of a trainer with the same words and sizes.
    ///
    /// # Errors
    /// If a tensor is missing or of another shape.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var) in &self.vars {
            match state.get(name) {
                Some(tensor) if tensor.dims() == var.dims() => {
                    var.set(&tensor.to_device(&self.device)?.to_dtype(DType::F32)?.copy()?)?;
                }
                _ => {
                    let problem = format!("the state has no {name} of the shape {:?}", var.dims());
                    return Err(TeacherError::Invalid(problem));
                }
            }
        }
        let moments = state
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix("adam.")?.into(), tensor.clone())));
        self.adam = Adam::from_state(AdamConfig::default(), moments.collect())?;
        Ok(())
    }
}

/// How a parameter starts.
#[derive(Clone, Copy)]
enum Start {
    Normal(f64),
    Uniform(f64),
}

impl Start {
    fn draw(self, stream: &mut Stream) -> f32 {
        match self {
            Self::Normal(deviation) => (deviation * stream.normal()) as f32,
            Self::Uniform(bound) => (bound * (2.0 * stream.uniform() - 1.0)) as f32,
        }
    }
}

/// The words of the captions, the most frequent first; of equally frequent ones, in the order of the alphabet.
fn count_words(captions: &[Vec<String>]) -> Vec<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    for caption in captions.iter().flatten() {
        for word in normalise(caption).split_whitespace() {
            *counts.entry(word.into()).or_default() += 1;
        }
    }
    let mut words: Vec<(String, usize)> = counts.into_iter().collect();
    words.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
    words.into_iter().map(|(word, _)| word).collect()
}

/// The sum over a batch of max(0, margin + error of the pair − error of another), for each sentence over all other images and
/// for each image over all other sentences; or of the largest of each.
///
/// # Shapes
/// (n, dim), (n, dim) → scalar
fn ranking_loss(sentences: &Tensor, others: &Tensor, config: &OrderTraining) -> candle_core::Result<Tensor> {
    let n = sentences.dim(0)?;
    let errors = match config.similarity {
        Similarity::Order => {
            sentences.unsqueeze(1)?.broadcast_sub(&others.unsqueeze(0)?)?.relu()?.sqr()?.sum(2)?
        }
        Similarity::Cosine => sentences.matmul(&others.t()?)?.neg()?,
    };
    let pairs = Tensor::eye(n, DType::F32, errors.device())?;
    let apart = (1.0 - &pairs)?;
    let own = (&errors * &pairs)?.sum(1)?;
    let hinge = |axis: usize| {
        let hinges = ((own.unsqueeze(axis)?.broadcast_sub(&errors)? + config.margin)?.relu()? * &apart)?;
        // Of a sentence's row the others are the columns, and the other way round.
        if config.hard_negatives { hinges.max(axis)?.sum_all() } else { hinges.sum_all() }
    };
    hinge(1)? + hinge(0)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(values: &[[f32; 2]]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn losses_by_hand() {
        let check = |similarity, hard_negatives, expected: f32| {
            let config =
                OrderTraining { similarity, hard_negatives, margin: 0.5, ..OrderTraining::default() };
            let sentences = rows(&[[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]);
            let others = rows(&[[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]]);
            let loss = ranking_loss(&sentences, &others, &config).unwrap().to_scalar::<f32>().unwrap();
            assert!(
                (loss - expected).abs() < 1e-6,
                "{similarity:?} {hard_negatives}: {loss}, not {expected}"
            );
        };
        // Cosines: 1, .6, 0 | 0, .8, 1 | .6, 1, .8. Sentences: 0: .1 + 0, 1: 0 + .7, 2: .3 + .7; images: 0: 0 + .1,
        // 1: .3 + .7, 2: 0 + .7.
        check(Similarity::Cosine, false, 0.1 + 0.7 + 1.0 + 0.1 + 1.0 + 0.7);
        check(Similarity::Cosine, true, 0.1 + 0.7 + 0.7 + 0.1 + 0.7 + 0.7);
        // Violations Σ max(0, s − v)²: 0, .16, 1 | 1, .04, 0 | .64, 0, .36. Sentences: 0: .34 + 0, 1: 0 + .54,
        // 2: .22 + .86; images: 0: 0 + 0, 1: .38 + .54, 2: 0 + .86.
        check(Similarity::Order, false, 0.34 + 0.54 + 1.08 + 0.92 + 0.86);
        check(Similarity::Order, true, 0.34 + 0.54 + 0.86 + 0.54 + 0.86);
    }

    /// Groups of two captions that share no word with each other and some with other groups.
    fn groups() -> Vec<Vec<String>> {
        let pair = |a: &str, b: &str| vec![format!("a {a} runs"), format!("some {b} is running")];
        [
            ("dog", "puppy"),
            ("cat", "kitten"),
            ("man", "person"),
            ("car", "vehicle"),
            ("boat", "ship"),
            ("bird", "parrot"),
        ]
        .map(|(a, b)| pair(a, b))
        .to_vec()
    }

    /// How many captions are nearest to that of their own group, of the group's other caption or its image.
    fn hits(sentences: &Tensor, others: &Tensor) -> usize {
        let nearest =
            sentences.matmul(&others.t().unwrap()).unwrap().argmax(1).unwrap().to_vec1::<u32>().unwrap();
        (0u32..).zip(nearest).filter(|(i, nearest)| i == nearest).count()
    }

    fn small(similarity: Similarity, hard_negatives: bool) -> OrderTraining {
        let base =
            OrderTraining { word_dim: 8, dim: 16, batch: 6, learning_rate: 1e-2, ..OrderTraining::default() };
        OrderTraining { similarity, hard_negatives, margin: 0.2, ..base }
    }

    fn go_on(_: usize, _: usize) -> Result<()> {
        Ok(())
    }

    #[test]
    fn paraphrases_and_images_are_learnt() {
        let groups = groups();
        let values = (0..6).flat_map(|i| (0..6).map(move |j| if i == j { 1f32 } else { 0.0 })).collect();
        let images = Tensor::from_vec(values, (6, 6), &Device::Cpu).unwrap();
        for (similarity, hard) in [(Similarity::Order, false), (Similarity::Cosine, true)] {
            let config = small(similarity, hard);
            let mut trainer = OrderTrainer::new(config, &groups, Some(6), &Device::Cpu).unwrap();
            let (mut first, mut last) = (0.0, 0.0);
            for epoch in 0..60 {
                last = trainer.epoch(epoch, &groups, Pairs::Captions, &mut go_on).unwrap()
                    + trainer.epoch(epoch, &groups, Pairs::Images(&images), &mut go_on).unwrap();
                first = if epoch == 0 { last } else { first };
            }
            let encoder = trainer.encoder("small").unwrap();
            let of = |k: usize| {
                let captions: Vec<&str> = groups.iter().map(|group| group[k].as_str()).collect();
                crate::SentenceEncoder::encode(&encoder, &captions).unwrap()
            };
            let (left, right) = (of(0), of(1));
            assert!(last < 0.5 * first, "{similarity:?}: {first}, {last}");
            assert_eq!(hits(&left, &right), 6, "{similarity:?}");
            assert_eq!(hits(&left, &encoder.images(&images).unwrap()), 6, "{similarity:?}");
        }
    }

    #[test]
    fn training_goes_on_from_its_state_with_the_same_bits() {
        let groups = groups();
        let run = |stop: Option<u64>| {
            let fresh =
                || OrderTrainer::new(small(Similarity::Order, false), &groups, None, &Device::Cpu).unwrap();
            let mut trainer = fresh();
            for epoch in 0..6 {
                if stop == Some(epoch) {
                    let state = trainer.state().unwrap();
                    trainer = fresh();
                    trainer.restore(&state).unwrap();
                }
                trainer.epoch(epoch, &groups, Pairs::Captions, &mut go_on).unwrap();
            }
            trainer.encoder("small").unwrap().fingerprint.clone()
        };
        assert_eq!(run(None), run(Some(3)));
    }

    #[test]
    fn words_are_counted_as_published() {
        let captions = [vec!["B a. b".to_string(), "c a".into()], vec!["b".into()]];
        assert_eq!(count_words(&captions), ["b", "a", "c"]);
        let trainer = OrderTrainer::new(OrderTraining::default(), &captions, None, &Device::Cpu).unwrap();
        assert_eq!(trainer.object()["worddict"], json!({ "b": 2, "a": 3, "c": 4 }));
        assert_eq!(trainer.object()["options"]["abs"], true);
    }

    #[test]
    fn what_cannot_be_trained_is_told() {
        let groups = groups();
        let check = |config: OrderTraining, part: &str| {
            let error = OrderTrainer::new(config, &groups, None, &Device::Cpu).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        };
        check(OrderTraining { dim: 0, ..OrderTraining::default() }, "dimension of 0");
        check(OrderTraining { margin: 0.0, ..OrderTraining::default() }, "above 0");
        check(OrderTraining { learning_rate: f64::NAN, ..OrderTraining::default() }, "above 0");
        let mut trainer =
            OrderTrainer::new(small(Similarity::Order, false), &groups, None, &Device::Cpu).unwrap();
        let images = Tensor::zeros((6, 6), DType::F32, &Device::Cpu).unwrap();
        let error = trainer.epoch(0, &groups, Pairs::Images(&images), &mut go_on).unwrap_err().to_string();
        assert!(error.contains("without images"), "{error}");
        let error =
            trainer.epoch(0, &[vec!["a".into()]], Pairs::Captions, &mut go_on).unwrap_err().to_string();
        assert!(error.contains("group 0 has 1 captions"), "{error}");
        let error = trainer.restore(&BTreeMap::new()).unwrap_err().to_string();
        assert!(error.contains("Wemb"), "{error}");
    }
}
