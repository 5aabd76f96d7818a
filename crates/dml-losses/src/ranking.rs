//! The ranking loss of a joint space: what belongs together should be nearer than what does not.

use candle_core::Tensor;
use dml_ops::{order_violation, relu};

use crate::{Result, check, l2_normalize};

/// How near two vectors of a joint space are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Similarity {
    /// The negative order violation −Σ max(0, a − b)²: 0 where no component of the more general a exceeds that of the
    /// more special b (Vendrov et al., ICLR 2016, eq. 2). The vectors are taken as they are.
    Order,
    /// The cosine; both sides are normalised.
    Cosine,
}

/// Which of a pair's hinges count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hinges {
    /// All of them, summed (Kiros et al. 2014; Vendrov et al. 2016, eq. 3).
    Sum,
    /// The largest, that of the hardest negative, on either side (VSE++; Faghri et al., BMVC 2018, eq. 6). Of several
    /// equal ones the first.
    Hardest,
}

/// The similarity of each row of `a`, such as captions, and each of `b`, such as images.
///
/// # Shapes
/// `a` (n, d), `b` (m, d), f32 or f64 → (n, m).
///
/// # Errors
/// If a shape or element type differs.
pub fn similarities(a: &Tensor, b: &Tensor, similarity: Similarity) -> Result<Tensor> {
    let (_, dim) = check::matrix("a", a)?;
    check::matrix("b", b)?;
    check::columns("b", b, dim)?;
    check::same_dtype("b", b, "a", a)?;
    Ok(match similarity {
        Similarity::Order => order_violation(a, b)?.neg()?,
        Similarity::Cosine => l2_normalize(a)?.matmul(&l2_normalize(b)?.t()?)?,
    })
}

/// The pairwise ranking loss within the batch, mean over its pairs: row i of `a` belongs to row i of `b`, and to no other.
/// With s the similarity, pair i has the hinges max(0, margin − s(aᵢ, bᵢ) + s(aᵢ, bⱼ)) and
/// max(0, margin − s(aᵢ, bᵢ) + s(aⱼ, bᵢ)) of all j other than i.
///
/// Both sides get a gradient. A batch of 1 has no negatives, and its loss is 0. The published order-embeddings sum over
/// the batch instead: multiply by n for that.
///
/// # Shapes
/// `a` (n, d), `b` (n, d), f32 or f64; `margin` above 0 → scalar.
///
/// # Errors
/// If a shape or element type differs, or `margin` is not a finite number above 0.
pub fn ranking(
    a: &Tensor,
    b: &Tensor,
    similarity: Similarity,
    margin: f64,
    hinges: Hinges,
) -> Result<Tensor> {
    check::positive("margin", margin)?;
    check::matrix("a", a)?;
    check::like("b", b, "a", a)?;
    let n = a.dim(0)?;
    let scores = similarities(a, b, similarity)?;
    let own = Tensor::eye(n, scores.dtype(), scores.device())?;
    let matched = (&scores * &own)?.sum_keepdim(1)?;
    let side = |scores: &Tensor| -> Result<Tensor> {
        let open = |negatives: &Tensor| -> Result<Tensor> {
            Ok(relu(&(negatives.broadcast_sub(&matched)? + margin)?)?)
        };
        Ok(match hinges {
            Hinges::Sum => (open(scores)? * own.affine(-1.0, 1.0)?)?.sum_all()?,
            Hinges::Hardest => {
                // The pair itself is far below all others, and its hinge closed.
                let negatives = (scores + own.affine(-1e30, 0.0)?)?;
                // candle's own maximum would give each of several equal ones the whole gradient.
                let hardest = negatives.detach().argmax_keepdim(1)?;
                open(&negatives.gather(&hardest, 1)?)?.sum_all()?
            }
        })
    };
    Ok(((side(&scores)? + side(&scores.t()?.contiguous()?)?)? / n as f64)?)
}
