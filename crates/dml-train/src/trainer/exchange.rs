//! Gradients that travel between ranks while the backward pass still runs: in buckets, by a thread of their own.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};

use candle_core::backprop::GradStore;
use candle_core::{Tensor, TensorId, Var};
use dml_collective::{Collective, Wire};
use dml_ops::PassForm;

use super::Trainer;
use crate::Result;

/// Numbers in a bucket, where one gradient alone does not have more: 16 MiB, beside which a message's latency is nothing, and of
/// which a large network has many, so that the first goes while most of the pass is still to come.
const BUCKET: usize = 4 << 20;

/// How the gradients of a phase travel: alike in all its steps, and on all ranks.
#[derive(Default)]
pub(super) struct Exchange {
    form: PassForm,
    /// Variables whose gradients travel together, from the first step on.
    buckets: Option<Vec<Vec<Var>>>,
}

impl Trainer<'_> {
    /// The gradients of a loss, their mean over the ranks.
    pub(super) fn gradients(
        &self,
        loss: &Tensor,
        vars: &[(String, Var)],
        exchange: &mut Exchange,
    ) -> Result<GradStore> {
        let ranks = (&*self.ranks, self.settings.wire);
        if self.ranks.size() == 1 {
            return Ok(dml_ops::backward(loss)?);
        }
        let Exchange { form, buckets } = exchange;
        let known = buckets.as_deref().unwrap_or_default();
        let (gradients, sent) = std::thread::scope(|scope| {
            let (whole, arriving) = channel();
            let sending = scope.spawn(move || send(ranks, known, &arriving));
            let gradients = dml_ops::backward_telling(loss, form, whole);
            (gradients, sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let (gradients, sent) = (gradients?, sent?);
        let buckets = buckets.get_or_insert_with(|| divide(vars, &gradients));
        finish(ranks, buckets, sent, gradients)
    }

    /// The mean of gradients over the ranks, after the pass that made them.
    pub(super) fn mean_gradients(&self, vars: &[(String, Var)], gradients: GradStore) -> Result<GradStore> {
        match self.ranks.size() {
            1 => Ok(gradients),
            _ => finish((&*self.ranks, self.settings.wire), &divide(vars, &gradients), vec![], gradients),
        }
    }
}

/// The variables that have a gradient, in buckets, roughly in the order in which a backward pass comes to them: heads first, then
/// the root from its last layer to its first. It follows from names and sizes alone, so that it is the same on all ranks.
fn divide(vars: &[(String, Var)], gradients: &GradStore) -> Vec<Vec<Var>> {
    let reached = vars.iter().filter(|(_, var)| gradients.get(var).is_some());
    let (heads, root): (Vec<_>, Vec<_>) = reached.partition(|(name, _)| name.starts_with("head."));
    let order: Vec<&Var> = heads.into_iter().chain(root.into_iter().rev()).map(|(_, var)| var).collect();
    let buckets = cut(&order, |var| var.elem_count());
    buckets.into_iter().map(|bucket| bucket.iter().copied().cloned().collect()).collect()
}

/// Cuts a list into runs of [`BUCKET`] numbers at most, or of one thing that has more.
fn cut<T>(mut rest: &[T], numbers: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let mut all = Vec::new();
    while !rest.is_empty() {
        let mut sum = 0;
        let fits = |item: &&T| {
            sum += numbers(item);
            sum <= BUCKET
        };
        let (bucket, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        all.push(bucket);
        rest = others;
    }
    all
}

/// Takes the means of the buckets that are full, in their order, until no more gradients arrive.
fn send(
    ranks: (&dyn Collective, Wire),
    buckets: &[Vec<Var>],
    arriving: &Receiver<(TensorId, Tensor)>,
) -> Result<Vec<Vec<Tensor>>> {
    let (mut here, mut sent) = (HashMap::new(), Vec::new());
    for bucket in buckets {
        while !bucket.iter().all(|var| here.contains_key(&var.id())) {
            let Ok((id, gradient)) = arriving.recv() else { return Ok(sent) };
            here.insert(id, gradient);
        }
        let gradients: Vec<Tensor> = bucket.iter().filter_map(|var| here.remove(&var.id())).collect();
        sent.push(mean_of_tensors(ranks, &gradients)?);
    }
    Ok(sent)
}

/// Takes the means of the buckets that have not been sent, and puts all in the gradients' places.
fn finish(
    ranks: (&dyn Collective, Wire),
    buckets: &[Vec<Var>],
    mut sent: Vec<Vec<Tensor>>,
    mut gradients: GradStore,
) -> Result<GradStore> {
    for bucket in &buckets[sent.len()..] {
        let late: Vec<Tensor> = bucket.iter().filter_map(|var| gradients.get(var).cloned()).collect();
        sent.push(mean_of_tensors(ranks, &late)?);
    }
    for (var, mean) in buckets.iter().zip(sent).flat_map(|(bucket, means)| bucket.iter().zip(means)) {
        gradients.insert(var, mean);
    }
    Ok(gradients)
}

/// The mean over the ranks of several tensors, in one message.
fn mean_of_tensors((ranks, wire): (&dyn Collective, Wire), tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    let flat = tensors.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
    let mean = ranks.mean(&Tensor::cat(&flat, 0)?, wire)?;
    let mut from = 0;
    let mut next = |tensor: &Tensor| {
        let count = tensor.elem_count();
        from += count;
        mean.narrow(0, from - count, count)?.reshape(tensor.shape())
    };
    Ok(tensors.iter().map(&mut next).collect::<candle_core::Result<Vec<_>>>()?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use dml_collective::Alone;

    use super::*;

    #[test]
    fn lists_are_cut_where_they_are_full() {
        let check = |items: &[usize], expected: &[usize]| {
            let sizes: Vec<usize> = cut(items, |&item| item).into_iter().map(<[usize]>::len).collect();
            assert_eq!(sizes, expected, "{items:?}");
        };
        check(&[], &[]);
        check(&[1, 2, 3], &[3]);
        check(&[BUCKET, 1, 1], &[1, 2]);
        check(&[1, 3 * BUCKET, 1], &[1, 1, 1]);
    }

    #[test]
    fn a_bucket_goes_when_it_is_full_and_those_before_it_have_gone() {
        let vars: Vec<Var> = (0..3).map(|_| Var::new(&[0f32], &Device::Cpu).unwrap()).collect();
        let buckets = [vec![vars[0].clone()], vec![vars[1].clone(), vars[2].clone()]];
        let check = |arrivals: &[usize], expected: usize| {
            let (whole, arriving) = channel();
            let value = |number: usize| Tensor::new(&[number as f32], &Device::Cpu).unwrap();
            arrivals.iter().for_each(|&number| whole.send((vars[number].id(), value(number))).unwrap());
            drop(whole);
            let sent = send((&Alone, Wire::F32), &buckets, &arriving).unwrap();
            assert_eq!(sent.len(), expected, "{arrivals:?}");
            for (number, mean) in sent.iter().flatten().enumerate() {
                assert_eq!(mean.to_vec1::<f32>().unwrap(), [number as f32]);
            }
        };
        check(&[], 0);
        check(&[2, 1], 0);
        check(&[2, 0], 1);
        check(&[2, 1, 0], 2);
    }
}
