//! Linear support vector machines by dual coordinate descent, one class against the others.

use dml_rand::{Purpose, Stream};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Result, check};

/// The loss of a sample on the wrong side of its margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hinge {
    /// max(0, 1 − y f(x)): LIBLINEAR's solver 3.
    L1,
    /// max(0, 1 − y f(x))²: LIBLINEAR's solver 1, its default.
    L2,
}

/// How a [`LinearSvm`] is trained. The defaults are LIBLINEAR's, with its bias term.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SvmConfig {
    /// Weight of the losses against the regularisation |w|²/2.
    pub c: f64,
    /// The loss.
    pub hinge: Hinge,
    /// Value of a further feature that every sample has, whose weight is the bias and is regularised like the others
    /// (LIBLINEAR's `-B`); 0 for no bias.
    pub bias: f64,
    /// Training ends when no dual variable violates its optimality by more (LIBLINEAR's `-e`).
    pub tolerance: f64,
    /// Most passes over the samples.
    pub passes: usize,
    /// Seed of the order in which samples are visited. It decides nothing but how soon training ends.
    pub seed: u64,
}

impl Default for SvmConfig {
    fn default() -> Self {
        Self { c: 1.0, hinge: Hinge::L2, bias: 1.0, tolerance: 0.1, passes: 1000, seed: 0 }
    }
}

/// A linear classifier for each class against all others (L2-regularised).
///
/// Trained as Hsieh et al., *A Dual Coordinate Descent Method for Large-scale Linear SVM* (ICML 2008), algorithm 3, with
/// shrinking. Classes are trained on all threads; the result does not depend on their number.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearSvm {
    dim: usize,
    bias: f64,
    /// For each class `dim` weights and that of the bias.
    weights: Vec<f64>,
    converged: bool,
}

impl LinearSvm {
    /// Trains on labelled rows.
    ///
    /// # Shapes
    /// `features` (n, dim) row-major; `labels` (n), each below `classes`.
    ///
    /// # Errors
    /// `features` empty, ragged or with NaN or infinity, `labels` of another length or beyond `classes`, or a setting
    /// that is not positive.
    pub fn train(
        features: &[f32],
        dim: usize,
        labels: &[u32],
        classes: usize,
        config: &SvmConfig,
    ) -> Result<Self> {
        let n = rows(features, dim)?;
        check::length("labels", labels.len(), n, "one for each row of `features`")?;
        check::labels(labels, classes)?;
        for (name, value) in [("c", config.c), ("tolerance", config.tolerance)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(check::invalid(name, format!("{value} is not positive and finite")));
            }
        }
        if !(config.bias >= 0.0 && config.bias.is_finite()) {
            return Err(check::invalid("bias", format!("{} is negative or not finite", config.bias)));
        }
        let problem = Problem { features, dim, bias: config.bias };
        let squares: Vec<f64> = (0..n).map(|i| problem.square(i)).collect();
        let trained: Vec<(Vec<f64>, bool)> = (0..classes)
            .into_par_iter()
            .map(|class| {
                let sides: Vec<f64> =
                    labels.iter().map(|&l| if l as usize == class { 1.0 } else { -1.0 }).collect();
                problem.descend(&sides, &squares, class as u64, config)
            })
            .collect();
        let converged = trained.iter().all(|(_, converged)| *converged);
        let weights = trained.into_iter().flat_map(|(weights, _)| weights).collect();
        Ok(Self { dim, bias: config.bias, weights, converged })
    }

    /// Whether every class was trained to the tolerance, rather than stopped after the most passes.
    pub fn converged(&self) -> bool {
        self.converged
    }

    /// The weights of a class; the last is that of the bias feature.
    ///
    /// # Panics
    /// If there is no such class.
    pub fn weights(&self, class: usize) -> &[f64] {
        &self.weights[class * (self.dim + 1)..(class + 1) * (self.dim + 1)]
    }

    /// How far each row lies on each class's side. The highest class is the answer; see [`hit_at_1`](crate::hit_at_1()).
    ///
    /// # Shapes
    /// `features` (n, dim) row-major → (n, classes) row-major
    ///
    /// # Errors
    /// `features` empty, ragged or with NaN or infinity.
    pub fn decide(&self, features: &[f32]) -> Result<Vec<f32>> {
        let n = rows(features, self.dim)?;
        let problem = Problem { features, dim: self.dim, bias: self.bias };
        let classes = self.weights.len() / (self.dim + 1);
        Ok((0..n)
            .flat_map(|i| (0..classes).map(move |class| (i, class)))
            .map(|(i, class)| problem.dot(i, self.weights(class)) as f32)
            .collect())
    }
}

/// Mean of the rows of each group, divided by its length: a video's descriptor from those of its clips. A mean of zero
/// stays zero. The groups come in the order of their numbers.
///
/// # Shapes
/// `features` (n, dim) row-major, `groups` (n): any numbers, equal for rows of one group → (groups, dim) row-major, and
/// the first row of each group.
///
/// # Errors
/// `features` empty, ragged or with NaN or infinity, `groups` of another length.
pub fn group_descriptors(features: &[f32], dim: usize, groups: &[usize]) -> Result<(Vec<f32>, Vec<usize>)> {
    let n = rows(features, dim)?;
    check::length("groups", groups.len(), n, "one for each row of `features`")?;
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|&row| (groups[row], row));
    let (mut descriptors, mut firsts) = (Vec::new(), Vec::new());
    for group in order.chunk_by(|&a, &b| groups[a] == groups[b]) {
        // The sum has the mean's direction.
        let mut sum = vec![0.0; dim];
        for &row in group {
            for (total, &value) in sum.iter_mut().zip(&features[row * dim..(row + 1) * dim]) {
                *total += f64::from(value);
            }
        }
        let length = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        descriptors.extend(sum.into_iter().map(|x| (x * scale) as f32));
        firsts.push(group[0]);
    }
    Ok((descriptors, firsts))
}

fn rows(features: &[f32], dim: usize) -> Result<usize> {
    if dim == 0 {
        return Err(check::invalid("dim", "there must be at least one feature".to_owned()));
    }
    let n = check::rows("features", features, dim)?;
    match features.iter().position(|value| value.is_infinite()) {
        Some(at) => Err(check::invalid("features", format!("infinite at position {at}"))),
        None => Ok(n),
    }
}

struct Problem<'a> {
    features: &'a [f32],
    dim: usize,
    bias: f64,
}

impl Problem<'_> {
    fn row(&self, i: usize) -> &[f32] {
        &self.features[i * self.dim..(i + 1) * self.dim]
    }

    fn square(&self, i: usize) -> f64 {
        self.row(i).iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() + self.bias * self.bias
    }

    fn dot(&self, i: usize, weights: &[f64]) -> f64 {
        // Four sums, which the processor adds at once; always the same four.
        let (mut sums, weights) = ([0.0; 4], &weights[..=self.dim]);
        let (rows, rest) = self.row(i).as_chunks::<4>();
        for (x, w) in rows.iter().zip(weights.chunks_exact(4)) {
            for lane in 0..4 {
                sums[lane] += f64::from(x[lane]) * w[lane];
            }
        }
        let tail = rest.iter().zip(&weights[4 * rows.len()..]).map(|(&x, w)| f64::from(x) * w);
        sums.iter().sum::<f64>() + tail.sum::<f64>() + self.bias * weights[self.dim]
    }

    fn add(&self, i: usize, factor: f64, weights: &mut [f64]) {
        for (w, &x) in weights.iter_mut().zip(self.row(i)) {
            *w += factor * f64::from(x);
        }
        weights[self.dim] += factor * self.bias;
    }

    /// The weights of one class, and whether they are within the tolerance.
    fn descend(&self, sides: &[f64], squares: &[f64], class: u64, config: &SvmConfig) -> (Vec<f64>, bool) {
        let (upper, diagonal) = match config.hinge {
            Hinge::L1 => (config.c, 0.0),
            Hinge::L2 => (f64::INFINITY, 0.5 / config.c),
        };
        let n = sides.len();
        let mut weights = vec![0.0; self.dim + 1];
        let mut duals = vec![0.0; n];
        let mut active: Vec<usize> = (0..n).collect();
        // The largest and smallest projected gradient of the last pass: beyond them a bounded variable stays bounded.
        let (mut most, mut least) = (f64::INFINITY, f64::NEG_INFINITY);
        for pass in 0..config.passes {
            let order =
                Stream::new(config.seed, Purpose::Shuffle, pass as u64, class).permutation(active.len());
            let (mut highest, mut lowest) = (f64::NEG_INFINITY, f64::INFINITY);
            let mut kept = vec![true; active.len()];
            for at in order {
                let i = active[at];
                let gradient = sides[i] * self.dot(i, &weights) - 1.0 + duals[i] * diagonal;
                let projected = if duals[i] == 0.0 {
                    kept[at] = gradient <= most;
                    gradient.min(0.0)
                } else if duals[i] == upper {
                    kept[at] = gradient >= least;
                    gradient.max(0.0)
                } else {
                    gradient
                };
                if !kept[at] {
                    continue;
                }
                (highest, lowest) = (highest.max(projected), lowest.min(projected));
                // Under L1 a sample of zeros has no curvature without a bias: its variable goes to its bound.
                if projected.abs() > 1e-12 {
                    let old = duals[i];
                    duals[i] = (old - gradient / (squares[i] + diagonal)).clamp(0.0, upper);
                    self.add(i, (duals[i] - old) * sides[i], &mut weights);
                }
            }
            let all = active.len() == n;
            if highest - lowest <= config.tolerance {
                if all {
                    return (weights, true);
                }
                // What was set aside is looked at once more.
                active = (0..n).collect();
                (most, least) = (f64::INFINITY, f64::NEG_INFINITY);
                continue;
            }
            let mut kept = kept.into_iter();
            active.retain(|_| kept.next().unwrap_or(true));
            most = if highest > 0.0 { highest } else { f64::INFINITY };
            least = if lowest < 0.0 { lowest } else { f64::NEG_INFINITY };
        }
        (weights, false)
    }
}
