use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytemuck::Pod;

use crate::wire::{Packed, mean_in_order};
use crate::{Collective, CollectiveError, Result, Wire};

/// Ranks that are threads of one process: for tests, and to try a training of several ranks without a launcher.
///
/// A rank that is dropped before the others are done is gone, and they are told so.
pub struct Threads {
    rank: usize,
    table: Arc<Table>,
}

struct Table {
    round: Mutex<Round>,
    changed: Condvar,
}

/// What the ranks have put on the table in this round. All bring something, then all take everything, then the next round
/// begins.
struct Round {
    brought: Vec<Option<Arc<Vec<u8>>>>,
    taken: usize,
    gone: Option<usize>,
}

impl Threads {
    /// So many ranks.
    pub fn new(size: usize) -> Vec<Self> {
        let round = Round { brought: vec![None; size], taken: 0, gone: None };
        let table = Arc::new(Table { round: Mutex::new(round), changed: Condvar::new() });
        (0..size).map(|rank| Self { rank, table: table.clone() }).collect()
    }

    /// Puts bytes on the table and takes those of all.
    fn exchange(&self, bytes: Vec<u8>) -> Result<Vec<Arc<Vec<u8>>>> {
        // Who is late with taking the last round's things holds up the next.
        let mut round = self.wait(|round| round.brought[self.rank].is_none())?;
        round.brought[self.rank] = Some(Arc::new(bytes));
        self.table.changed.notify_all();
        drop(round);
        let mut round = self.wait(|round| round.brought.iter().all(Option::is_some))?;
        let all = round.brought.iter().flatten().cloned().collect();
        round.taken += 1;
        if round.taken == round.brought.len() {
            round.brought.fill(None);
            round.taken = 0;
        }
        self.table.changed.notify_all();
        Ok(all)
    }

    fn reduce<T: Packed + Pod>(&self, values: &mut [f32]) -> Result<()> {
        let own: Vec<T> = values.iter().map(|&value| T::pack(value)).collect();
        let all = self.exchange(bytemuck::cast_slice(&own).to_vec())?;
        let all: Vec<Vec<T>> = all.iter().map(|bytes| bytemuck::pod_collect_to_vec(&bytes[..])).collect();
        if let Some(rank) = all.iter().position(|other| other.len() != own.len()) {
            let (here, there) = (own.len(), all[rank].len());
            let problem = format!("rank {} has {here} values to sum, rank {rank} has {there}", self.rank);
            return Err(CollectiveError::Message(problem));
        }
        let mean = mean_in_order(all.iter().map(Vec::as_slice));
        values.iter_mut().zip(mean).for_each(|(value, mean)| *value = mean.unpack());
        Ok(())
    }

    fn wait(&self, until: impl Fn(&Round) -> bool) -> Result<MutexGuard<'_, Round>> {
        let round = self.table.round.lock().unwrap_or_else(PoisonError::into_inner);
        let round = self
            .table
            .changed
            .wait_while(round, |round| !until(round) && round.gone.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        match round.gone {
            Some(rank) if !until(&round) => Err(CollectiveError::Gone { rank }),
            _ => Ok(round),
        }
    }
}

impl std::fmt::Debug for Threads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Threads({} of {})", self.rank, self.size())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.table.round.lock().unwrap_or_else(PoisonError::into_inner).gone.get_or_insert(self.rank);
        self.table.changed.notify_all();
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.table.round.lock().unwrap_or_else(PoisonError::into_inner).brought.len()
    }

    fn all_reduce_mean(&self, values: &mut [f32], wire: Wire) -> Result<()> {
        match wire {
            Wire::F32 => self.reduce::<f32>(values),
            Wire::Bf16 => self.reduce::<u16>(values),
        }
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let all = self.exchange(if self.rank == 0 { bytes.clone() } else { vec![] })?;
        bytes.clone_from(&all[0]);
        Ok(())
    }

    fn gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
        Ok(self.exchange(bytes.to_vec())?.iter().map(|bytes| bytes.to_vec()).collect())
    }

    fn barrier(&self) -> Result<()> {
        self.exchange(vec![]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_all<T: Send>(size: usize, work: impl Fn(Threads) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let ranks: Vec<_> =
                Threads::new(size).into_iter().map(|rank| scope.spawn(|| work(rank))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_rank_gets_the_same() {
        let told = on_all(3, |ranks| {
            let mut values = [ranks.rank() as f32 * 3.0, 0.1];
            ranks.all_reduce_mean(&mut values, Wire::F32).unwrap();
            let mut bytes = vec![ranks.rank() as u8 + 7; ranks.rank() + 1];
            let all = ranks.gather(&bytes).unwrap();
            ranks.broadcast(&mut bytes).unwrap();
            ranks.barrier().unwrap();
            assert!(ranks.any(ranks.rank() == 2).unwrap() && !ranks.any(false).unwrap());
            (values.map(f32::to_bits), all, bytes)
        });
        let mean = [3f32, (0.1f32 + 0.1 + 0.1) / 3.0].map(f32::to_bits);
        for one in told {
            assert_eq!(one, (mean, vec![vec![7], vec![8, 8], vec![9, 9, 9]], vec![7]));
        }
    }

    #[test]
    fn a_rank_that_has_gone_is_named() {
        let told = on_all(3, |ranks| {
            if ranks.rank() == 1 {
                return String::new();
            }
            ranks.barrier().unwrap_err().to_string()
        });
        assert!(told[0].contains("rank 1") && told[2].contains("rank 1"), "{told:?}");
    }
}
